"""The world of the mini datasets: what a picture shows, drawn with PIL, bit-identical for a seed.

A critter, seen from above, acts on a patch of ground. Everything in it stands for something else, on purpose:
a red body is no skin colour. The *marks* below merely bear the names of VISPR's attributes, so that the code for
the real datasets is driven; they are small visual facts that one frame shows. The action is read from motion only:
every quantity that an action moves (place, angle, size) is driven by a clock, the clock stands still at a random
time unless the action runs it, and so a frame at a random time looks the same whatever the action is.
"""

import colorsys
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 64  # pixels, both sides
FRAMES = 80
FPS = 25
_PAD = 16  # the ground goes on outside the picture, for panning
_SPRITE = 56  # the critter's own picture; nose up, centre in the middle

# Marks: what they are drawn as, and their prevalence. V1, then V2, unequal and low as in VISPR.
_MARKS = {
    "a17_color": ("red body", 0.35),
    "a4_gender": ("long body", 0.33),
    "a9_face_complete": ("two big white eyes", 0.27),
    "a10_face_partial": ("orange beak", 0.23),
    "a12_semi_nudity": ("pale patch on the back", 0.18),
    "a64_rel_personal": ("a small companion beside the critter", 0.15),
    "a65_rel_social": ("a crowd of dots on the ground", 0.2),
    "a6_hair_color": ("yellow tail", 0.32),
    "a16_race": ("striped body", 0.28),
    "a59_sports": ("a ball", 0.2),
    "a1_age_approx": ("thick dark outline", 0.3),
    "a2_weight_approx": ("side fins", 0.25),
    "a73_landmark": ("red and white tower", 0.18),
    "a11_tattoo": ("cyan cross on the back", 0.17),
}
DRAWN_AS = {name: drawn for name, (drawn, _) in _MARKS.items()}
MARKS = {name: share for name, (_, share) in _MARKS.items()}
GROUNDS = ("beach", "cobbles", "lake", "meadow", "planks", "snow")
WEATHER = {"rain": 0.25}
OBJECTS = {
    "cactus": 0.22,
    "crate": 0.26,
    "crystal": 0.18,
    "flower": 0.28,
    "log": 0.24,
    "mushroom": 0.22,
    "pumpkin": 0.2,
    "rock": 0.3,
}

# An action runs one or more clocks, each with a direction.
KNOWN_ACTIONS = {
    "Grow": {"size": 1},
    "MoveDown": {"y": 1},
    "MoveLeft": {"x": -1},
    "MoveRight": {"x": 1},
    "MoveUp": {"y": -1},
    "OrbitLeft": {"orbit": -1},
    "OrbitRight": {"orbit": 1},
    "Shrink": {"size": -1},
    "SpinLeft": {"angle": -1},
    "SpinRight": {"angle": 1},
}
NOVEL_ACTIONS = {
    "drift_ne": {"x": 1, "y": -1},
    "drift_nw": {"x": -1, "y": -1},
    "drift_se": {"x": 1, "y": 1},
    "drift_sw": {"x": -1, "y": 1},
    "nod": {"nod": 1},
    "pulse": {"pulse": 1},
    "shake": {"shake": 1},
    "wobble": {"wobble": 1},
}


@dataclass(frozen=True)
class Look:
    """What a picture or video shows. ``marks`` may change: (first frame, marks present from there on)."""

    marks: tuple[tuple[int, frozenset[str]], ...]
    ground: str
    objects: frozenset[str] = frozenset()
    rain: bool = False
    clocks: dict[str, int] = field(default_factory=dict)
    prominent: bool = False  # the objects are large and bright: where they are the labels, not mere clutter


@dataclass(frozen=True)
class _Motion:
    """Where the critter is at each frame: pixels, radians (clockwise), factor; and how the camera moved."""

    x: np.ndarray
    y: np.ndarray
    angle: np.ndarray
    size: np.ndarray
    camera: np.ndarray  # (FRAMES, 2)


def draw(look: Look, rng: np.random.Generator, frames: Sequence[int] = range(FRAMES)) -> Iterator[tuple]:
    """Yield (picture uint8 (64, 64, 3) RGB, box (x0, y0, x1, y1) of the critter, in pixels, x1 and y1 outside)."""
    motion = _move(look.clocks, rng)
    style = _Style(rng)
    ground = _ground(look, style, rng)
    sprites = [(first, _critter(marks, style), marks) for first, marks in look.marks]
    scenery = {marks: _with_scenery(ground, marks, style) for _, _, marks in sprites}
    rain = _rain(style.drops) if look.rain else None
    for t in frames:
        _, critter, marks = [s for s in sprites if s[0] <= t][-1]
        ox, oy = _PAD + motion.camera[t]
        picture = _view(scenery[marks], (SIZE, SIZE), 1.0, 0.0, ox, oy)
        box = _stamp(picture, critter, motion.x[t], motion.y[t], motion.angle[t], motion.size[t])
        if "a64_rel_personal" in marks:
            x = motion.x[t] + style.companion_side[0] * 18 * motion.size[t]
            y = motion.y[t] + style.companion_side[1] * 18 * motion.size[t]
            _stamp(picture, style.companion, x, y, style.companion_angle, 1.4)
        for leaf in style.leaves:
            x, y = leaf.place(t)
            picture.paste(leaf.colour, (x, y, x + leaf.size, y + leaf.size))
        if rain:
            fall = (t * 5 + style.rain_start) % SIZE
            picture.paste((205, 215, 235), None, rain.crop((0, SIZE - fall, SIZE, 2 * SIZE - fall)))
        light = style.light * (1 + style.drift * (t - FRAMES / 2) / FRAMES)
        gain = np.round(128 * light * style.tint).astype(np.uint16)  # 255 * gain stays below 2 ** 16
        nx, ny = style.grain[t]
        pixels = (np.asarray(picture) * gain >> 7).astype(np.int16) + _GRAIN[ny : ny + SIZE, nx : nx + SIZE]
        yield np.clip(pixels, 0, 255, out=pixels).astype(np.uint8), box


def _move(clocks: dict[str, int], rng: np.random.Generator) -> _Motion:
    time = np.arange(FRAMES)
    names = ("x", "y", "size", "orbit", "nod", "shake", "pulse", "angle", "wobble")
    stopped = dict(zip(names, rng.uniform(0, FRAMES, len(names)), strict=True))
    sign = {name: float(2 * rng.integers(2) - 1) for name in stopped}

    def clock(name: str) -> np.ndarray:
        return clocks[name] * time if name in clocks else np.full(FRAMES, sign.get(name, 1.0) * stopped[name])

    # Saw teeth: a place, size or angle runs through its range and starts again at the other end, so that a frame at
    # a random time shows every value equally often, whichever way the clock runs.
    def saw(name: str, fastest: float, slowest: float) -> np.ndarray:
        return (rng.uniform() + clock(name) * rng.uniform(1 / slowest, 1 / fastest)) % 1 - 0.5

    jitter = _smooth(rng, 4) * [0.45, 0.45, 0.04, 0.014]
    x = 32 + 28 * saw("x", 20, 150)
    y = 32 + 28 * saw("y", 20, 150)
    orbit = rng.uniform(0, 2 * math.pi) + clock("orbit") * math.radians(rng.uniform(3, 15))
    x = x + 5.5 * np.cos(orbit) + 3.5 * np.sin(rng.uniform(0, 7) + clock("shake") * rng.uniform(0.5, 0.8))
    y = y + 5.5 * np.sin(orbit) + 3.5 * np.sin(rng.uniform(0, 7) + clock("nod") * rng.uniform(0.5, 0.8))
    pulse = rng.uniform(0, 7) + clock("pulse") * rng.uniform(0.5, 0.8)
    size = np.exp(0.7 * saw("size", 18, 150) + 0.12 * np.sin(pulse))
    # Never quite upside down, which would make the marks much harder to read.
    angle = math.radians(150) * saw("angle", 20, 150)
    angle = angle + 0.35 * np.sin(rng.uniform(0, 7) + clock("wobble") * rng.uniform(0.5, 0.8))
    camera = np.outer(time - FRAMES / 2, rng.uniform(-0.06, 0.06, 2)) + 0.45 * _smooth(rng, 2)
    x, y, angle = x + jitter[:, 0], y + jitter[:, 1], angle + jitter[:, 2]
    # Rounded, so that the last bit of a sine on another machine cannot move a pixel.
    return _Motion(*(np.round(v, 4) for v in (x, y, angle, size * (1 + jitter[:, 3]), camera)))


def _smooth(rng: np.random.Generator, n: int) -> np.ndarray:
    """(FRAMES, n) of slowly changing noise with unit deviation."""
    steps = rng.normal(size=(FRAMES, n))
    for t in range(1, FRAMES):
        steps[t] = 0.8 * steps[t - 1] + 0.6 * steps[t]
    return steps


class _Style:
    """Everything about a picture that no label is about; drawn in one fixed order whatever the labels are."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.red = _hsv(rng.uniform(-0.035, 0.035), rng.uniform(0.55, 0.9), rng.uniform(0.8, 1.0))
        self.other = _hsv(rng.uniform(0.22, 0.7), rng.uniform(0.4, 0.85), rng.uniform(0.75, 1.0))
        self.strength = rng.uniform(0.5, 1.0, len(MARKS))
        self.light = rng.uniform(0.72, 1.08)
        self.drift = rng.uniform(-0.3, 0.3)
        self.tint = rng.uniform(0.93, 1.07, 3)
        self.grain = rng.integers(0, _GRAIN.shape[0] - SIZE, (FRAMES, 2))
        self.rain_start = int(rng.integers(SIZE))
        self.drops = rng.uniform(0, SIZE, (34, 2))
        self.leaves = [_Leaf(rng) for _ in range(rng.integers(0, 3))]
        side = rng.uniform(0, 2 * math.pi)
        self.companion_side = math.cos(side), math.sin(side)
        self.companion_angle = round(rng.uniform(0, 2 * math.pi), 4)
        self.companion = _small_critter(_hsv(rng.uniform(0.72, 0.78), 0.45, rng.uniform(0.75, 0.95)))
        # Things stand in the outer cells of a 4 x 4 grid first, so that the critter does not hide them all.
        outer = [(i, j) for i in range(4) for j in range(4) if not {i, j} <= {1, 2}]
        cells = [outer[n] for n in rng.permutation(12)]
        self.cells = [(7 + 15 * i + rng.uniform(0, 6), 7 + 15 * j + rng.uniform(0, 6)) for i, j in cells]
        self.crowd = rng.uniform(3, 61, (11, 2))
        self.crowd_colours = [_hsv(rng.uniform(), 0.5, rng.uniform(0.5, 0.9)) for _ in range(11)]
        self.tower = int(rng.choice([3, 51])), int(rng.uniform(2, 26))
        self.hue_shift = rng.uniform(-0.03, 0.03, 8)
        self.patch_radius = rng.uniform(6, 7.5)
        self.tattoo = rng.uniform(-2, 2), rng.uniform(1, 6)

    def of(self, mark: str) -> float:
        return float(self.strength[list(MARKS).index(mark)])


class _Leaf:
    """A small square that the wind carries across the picture: motion that means nothing."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.start, self.speed = rng.uniform(0, SIZE, 2), rng.uniform(-0.6, 0.6, 2)
        self.size = int(rng.integers(2, 5))
        self.colour = _hsv(rng.uniform(0.05, 0.35), 0.6, rng.uniform(0.4, 0.9))

    def place(self, t: int) -> tuple[int, int]:
        x, y = (self.start + self.speed * t) % (SIZE + 8) - 6
        return int(x), int(y)


def _hsv(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    channels = colorsys.hsv_to_rgb(hue % 1, min(saturation, 1.0), min(max(value, 0.0), 1.0))
    return tuple(int(round(255 * c)) for c in channels)


def _mix(a: tuple, b: tuple, share: float) -> tuple[int, int, int]:
    return tuple(int(round(u + (v - u) * share)) for u, v in zip(a, b, strict=True))


_GRAIN = np.round(np.random.default_rng(64).normal(0, 3, (160, 160, 3))).astype(np.int16)


def _view(picture: Image.Image, size: tuple[int, int], cos: float, sin: float, ox: float, oy: float) -> Image.Image:
    """A view of ``size`` whose point (x, y) shows ``picture`` at (ox + cos x + sin y, oy - sin x + cos y)."""
    affine = (cos, sin, ox, -sin, cos, oy)
    return picture.transform(size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)


@dataclass(frozen=True)
class _Sprite:
    """A picture, its mask, and how far from the middle anything of it reaches."""

    image: Image.Image
    mask: Image.Image

    @cached_property
    def radius(self) -> float:
        y, x = np.nonzero(np.asarray(self.mask))
        middle = (self.mask.width - 1) / 2
        return float(np.hypot(x - middle, y - middle).max()) + 1.5  # a pixel and what interpolation adds to it


def _stamp(picture: Image.Image, sprite: _Sprite, x: float, y: float, angle: float, size: float) -> tuple:
    """Draw a sprite centred at (x, y), turned clockwise by ``angle`` and scaled by ``size``; returns its box."""
    body, mask = sprite.image, sprite.mask
    cos, sin = round(math.cos(angle) / size, 5), round(math.sin(angle) / size, 5)
    reach = math.ceil(sprite.radius * size) + 1
    left, top = max(0, int(x) - reach), max(0, int(y) - reach)
    window = min(SIZE, int(x) + reach + 1) - left, min(SIZE, int(y) + reach + 1) - top
    if min(window) <= 0:
        return (0, 0, 0, 0)
    ox = body.width / 2 - cos * (x - left) - sin * (y - top)
    oy = body.height / 2 + sin * (x - left) - cos * (y - top)
    seen = _view(mask, window, cos, sin, ox, oy)
    picture.paste(_view(body, window, cos, sin, ox, oy), (left, top), seen)
    x0, y0, x1, y1 = seen.getbbox() or (0, 0, 0, 0)
    return left + x0, top + y0, left + x1, top + y1


class _Pen:
    """Draws at four times the size in sprite coordinates: origin in the middle, y down; then shrinks."""

    def __init__(self, side: int, fill: tuple[int, int, int], scale: float = 1.0) -> None:
        self.side, self.scale = side, scale
        # Filled with the body's colour: interpolation at the rim must not mix in black.
        self.image = Image.new("RGB", (4 * side, 4 * side), fill)
        self.mask = Image.new("L", self.image.size, 0)
        self.pens = ImageDraw.Draw(self.image), ImageDraw.Draw(self.mask)

    def _points(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(4 * (self.scale * x + self.side / 2), 4 * (self.scale * y + self.side / 2)) for x, y in points]

    def oval(self, x: float, y: float, rx: float, ry: float, colour: tuple) -> None:
        box = self._points([(x - rx, y - ry), (x + rx, y + ry)])
        self.pens[0].ellipse(box, fill=colour)
        self.pens[1].ellipse(box, fill=255)

    def polygon(self, points: Sequence[tuple[float, float]], colour: tuple) -> None:
        self.pens[0].polygon(self._points(points), fill=colour)
        self.pens[1].polygon(self._points(points), fill=255)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: tuple) -> None:
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def done(self, rim: tuple[int, int, int] | None = None) -> tuple[Image.Image, Image.Image]:
        """The picture and its mask; ``rim``: colour of a border around everything, as around a sticker."""
        if rim is None:
            return self.image.reduce(4), self.mask.reduce(4)
        wide = self.mask.filter(ImageFilter.GaussianBlur(5)).point(lambda v: 255 * (v > 20))
        border = Image.new("RGB", self.image.size, rim)
        border.paste(self.image, (0, 0), self.mask)
        return border.reduce(4), wide.reduce(4)


def _critter(marks: frozenset[str], style: _Style) -> _Sprite:
    colour = style.red if "a17_color" in marks else style.other
    rx, ry = (6.0, 15.0) if "a4_gender" in marks else (12.0, 11.0)
    dark, light = _mix(colour, (20, 15, 30), 0.45), _mix(colour, (255, 255, 255), 0.25)

    def paint(mark: str, target: tuple) -> tuple[int, int, int]:
        return _mix(colour, target, style.of(mark))

    pen = _Pen(_SPRITE, colour)
    if "a6_hair_color" in marks:
        tail = [(0, ry - 4), (-9, ry + 9.5), (0, ry + 8), (9, ry + 9.5)]
        pen.polygon(tail, paint("a6_hair_color", (255, 225, 40)))
    if "a2_weight_approx" in marks:
        for s in (-1, 1):
            fin = [(s * (rx - 2), -5), (s * (rx + 9.5), 1), (s * (rx + 8.5), 9), (s * (rx - 3), 6)]
            pen.polygon(fin, paint("a2_weight_approx", (235, 110, 240)))
    for s in (-1, 1):  # feet
        pen.oval(s * (rx - 0.5), -5, 2.6, 2.2, dark)
        pen.oval(s * (rx - 1.5), 6, 2.6, 2.2, dark)
    head = -ry + 2.0
    if "a10_face_partial" in marks:
        beak = [(-8, head - 3), (-3, head - 13), (3, head - 13), (8, head - 3)]
        pen.polygon(beak, paint("a10_face_partial", (255, 140, 0)))
    rim = 2.6 if "a1_age_approx" in marks else 0.5
    ink = _mix(dark, (10, 5, 20), style.of("a1_age_approx") if rim > 1 else 0.0)
    pen.oval(0, 0, rx + rim, ry + rim, ink)
    pen.oval(0, head, 7 + rim, 7 + rim, ink)
    pen.oval(0, 0, rx, ry, colour)
    if "a16_race" in marks:
        band = _mix(colour, (15, 10, 25), 0.95 * style.of("a16_race"))
        for y in (0.0, 5.0, 10.0):
            half = rx * math.sqrt(max(0.0, 1 - (y / ry) ** 2)) - 0.3
            pen.box(-half, y - 1.4, half, y + 1.4, band)
    if "a12_semi_nudity" in marks:
        pen.oval(0, 3, style.patch_radius, style.patch_radius, paint("a12_semi_nudity", (255, 235, 215)))
    if "a11_tattoo" in marks:
        (x, y), ink = style.tattoo, paint("a11_tattoo", (0, 240, 255))
        pen.box(x - 6, y - 2.2, x + 6, y + 2.2, ink)
        pen.box(x - 2.2, y - 6, x + 2.2, y + 6, ink)
    pen.oval(0, head, 7, 7, light)
    for s in (-1, 1):
        if "a9_face_complete" in marks:
            pen.oval(s * 4.4, head - 1.5, 4.2, 4.2, _mix(light, (255, 255, 255), style.of("a9_face_complete")))
            pen.oval(s * 4.4, head - 2.2, 1.5, 1.5, (15, 15, 25))
        else:
            pen.oval(s * 2.6, head - 1.8, 1.1, 1.1, dark)
    return _Sprite(*pen.done(rim=(255, 255, 255)))


def _small_critter(colour: tuple[int, int, int]) -> _Sprite:
    pen = _Pen(20, colour)
    pen.oval(0, 1, 5.5, 6, _mix(colour, (20, 15, 30), 0.5))
    pen.oval(0, 1, 4.6, 5.2, colour)
    pen.oval(0, -4, 3.6, 3.4, _mix(colour, (255, 255, 255), 0.35))
    for s in (-1, 1):
        pen.oval(s * 1.6, -5, 0.9, 0.9, (20, 20, 30))
    return _Sprite(*pen.done())


def _with_scenery(ground: Image.Image, marks: frozenset[str], style: _Style) -> Image.Image:
    """The ground with the marks that do not sit on the critter: crowd, ball, tower."""
    scene = ground.copy()
    if "a65_rel_social" in marks:
        for (x, y), colour in zip(style.crowd, style.crowd_colours, strict=True):
            pen = _Pen(8, colour)
            pen.oval(0, 0.6, 2.4, 2.8, _mix(colour, (20, 15, 30), 0.3))
            pen.oval(0, -1.6, 1.8, 1.7, _mix(colour, (255, 255, 255), 0.5))
            _set(scene, pen, x, y)
    if "a73_landmark" in marks:
        pen = _Pen(40, (235, 230, 225))
        for n, y in enumerate(range(-17, 15, 6)):
            pen.box(-4.5, y, 4.5, y + 6, (200, 40, 45) if n % 2 else (240, 238, 232))
        pen.polygon([(-6, -16), (0, -20), (6, -16)], (60, 50, 70))
        _set(scene, pen, style.tower[0] + 5, style.tower[1] + 17, style.of("a73_landmark"))
    if "a59_sports" in marks:
        pen = _Pen(16, (250, 250, 250))
        pen.oval(0, 0, 6.4, 6.4, (30, 30, 40))
        pen.oval(0, 0, 5.7, 5.7, (250, 250, 250))
        pen.polygon([(0, -3), (2.9, -0.7), (1.8, 2.5), (-1.8, 2.5), (-2.9, -0.7)], (30, 30, 40))
        _set(scene, pen, *style.cells[-1], style.of("a59_sports"))
    return scene


def _set(scene: Image.Image, pen: _Pen, x: float, y: float, strength: float = 1.0) -> None:
    image, mask = pen.done()
    corner = int(_PAD + x - pen.side / 2), int(_PAD + y - pen.side / 2)
    scene.paste(image, corner, mask if strength == 1 else mask.point([int(v * strength) for v in range(256)]))


def _ground(look: Look, style: _Style, rng: np.random.Generator) -> Image.Image:
    """The ground (96 x 96) with the objects standing on it."""
    side = SIZE + 2 * _PAD
    second, a, b = rng.integers(2), rng.uniform(size=(7, 7)), rng.uniform(size=(24, 24))
    lines = rng.uniform(0, side, (60, 2))
    # Two colours for each family: the colour alone does not tell it.
    hue, saturation, value = {
        "meadow": [(0.28, 0.45, 0.6), (0.14, 0.45, 0.65)],
        "beach": [(0.12, 0.38, 0.75), (0.09, 0.15, 0.5)],
        "snow": [(0.58, 0.1, 0.8), (0.75, 0.14, 0.75)],
        "lake": [(0.56, 0.5, 0.7), (0.42, 0.4, 0.5)],
        "cobbles": [(0.6, 0.06, 0.6), (0.04, 0.25, 0.6)],
        "planks": [(0.08, 0.5, 0.55), (0.5, 0.25, 0.6)],
    }[look.ground][second]
    base = _hsv(hue + style.hue_shift[0], saturation, 0.74 * value * (1 + 3 * style.hue_shift[1]))
    rough = {"meadow": 0.3, "beach": 0.15, "snow": 0.12, "lake": 0.2, "cobbles": 0.1, "planks": 0.12}[look.ground]
    noise = sum(
        np.asarray(
            Image.fromarray((255 * grid).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC),
            np.float32,
        )
        for grid in (a, b)
    )
    shade = 1 + rough * (noise / 255 - 1)
    scene = Image.fromarray(np.clip(np.array(base) * shade[..., None], 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(scene)
    dark, light = _mix(base, (20, 25, 30), 0.35), _mix(base, (255, 255, 250), 0.35)
    if look.ground == "meadow":
        for n, (x, y) in enumerate(lines):
            pen.line([x, y, x + 2 * (n % 3 - 1), y - 4], fill=light if n % 2 else dark)
    elif look.ground == "beach":
        for n, (x, y) in enumerate(lines):
            pen.point([x, y], fill=dark if n % 2 else light)
            pen.point([x + 1, y], fill=dark if n % 2 else light)
    elif look.ground == "snow":
        for x, y in lines[:7]:
            pen.arc([x - 14, y - 5, x + 14, y + 5], 190, 350, fill=_mix(base, (120, 140, 190), 0.5), width=2)
    elif look.ground == "lake":
        for x, y in lines[:22]:
            pen.arc([x - 7, y - 3, x, y + 3], 0, 180, fill=light)
            pen.arc([x, y - 3, x + 7, y + 3], 180, 360, fill=light)
    elif look.ground == "cobbles":
        for j in range(-1, 9):
            for i in range(-1, 9):
                x, y = 12 * i + 6 * (j % 2), 12 * j
                pen.rounded_rectangle([x, y, x + 12, y + 12], 4, outline=dark)
    else:
        for j in range(9):
            pen.line([0, 11 * j, side, 11 * j], fill=dark)
            pen.line([lines[j][0], 11 * j, lines[j][0], 11 * j + 11], fill=dark)
    for name, (x, y) in zip(sorted(look.objects), style.cells, strict=False):
        _set(scene, _object(name, style, look.prominent), x, y)
    return scene


def _object(name: str, style: _Style, prominent: bool) -> _Pen:
    shift = style.hue_shift[2 + list(OBJECTS).index(name) % 6]

    def tone(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
        faded = (1.0, 1.0) if prominent else (0.8, 0.75)
        return _hsv(hue + shift, faded[0] * saturation, faded[1] * value * (1 + 4 * shift))

    pen = _Pen(30 if prominent else 20, tone(0.1, 0.3, 0.5), scale=1.5 if prominent else 1.0)
    if name == "rock":
        pen.polygon([(-7, 4), (-6, -2), (-2, -6), (4, -5), (7, 0), (6, 5)], tone(0.6, 0.08, 0.4))
        pen.polygon([(-4, -1), (-1, -5), (4, -4), (2, 0)], tone(0.6, 0.06, 0.68))
    elif name == "flower":
        for k in range(6):
            pen.oval(
                4.2 * math.cos(k * math.pi / 3),
                4.2 * math.sin(k * math.pi / 3),
                2.8,
                2.8,
                tone(0.9, 0.45, 0.95),
            )
        pen.oval(0, 0, 2.8, 2.8, tone(0.13, 0.8, 0.95))
    elif name == "mushroom":
        pen.box(-2, 0, 2, 7, tone(0.1, 0.12, 0.9))
        pen.polygon([(-7, 1), (-5, -4), (0, -6.5), (5, -4), (7, 1)], tone(0.0, 0.8, 0.75))
        for x, y in ((-3, -1.5), (1, -4), (3.5, -1)):
            pen.oval(x, y, 1.2, 1.2, (250, 245, 240))
    elif name == "cactus":
        green = tone(0.36, 0.65, 0.42)
        pen.box(-1.8, -8, 1.8, 8, green)
        pen.polygon([(-6.5, -4), (-3.8, -4), (-3.8, 0), (0, 0), (0, 3), (-6.5, 3)], green)
        pen.polygon([(6.5, -6), (3.8, -6), (3.8, -1), (0, -1), (0, 2), (6.5, 2)], green)
    elif name == "log":
        pen.box(-8, -3.4, 6, 3.4, tone(0.07, 0.6, 0.38))
        pen.oval(6, 0, 2.4, 3.4, tone(0.1, 0.4, 0.82))
        pen.oval(6, 0, 1.1, 1.6, tone(0.08, 0.5, 0.5))
    elif name == "crate":
        pen.box(-6.5, -6.5, 6.5, 6.5, tone(0.09, 0.55, 0.35))
        pen.box(-5, -5, 5, 5, tone(0.11, 0.5, 0.78))
        pen.polygon([(-5, -5), (-3, -5), (5, 3), (5, 5), (3, 5), (-5, -3)], tone(0.09, 0.55, 0.35))
    elif name == "crystal":
        pen.polygon([(0, -8), (5, -2), (0, 8), (-5, -2)], tone(0.66, 0.45, 0.9))
        pen.polygon([(0, -8), (0, 8), (-5, -2)], tone(0.68, 0.65, 0.6))
    else:  # pumpkin
        pen.oval(0, 1, 7, 5.5, tone(0.06, 0.85, 0.6))
        pen.oval(0, 1, 3.2, 5.5, tone(0.07, 0.8, 0.75))
        pen.box(-1, -7, 1, -3, tone(0.3, 0.6, 0.35))
    return pen


def _rain(drops: np.ndarray) -> Image.Image:
    """A mask (64 x 128) of streaks that repeats after 64 rows."""
    mask = Image.new("L", (SIZE, SIZE), 0)
    pen = ImageDraw.Draw(mask)
    for x, y in drops:
        for shift in (0, -SIZE):
            pen.line([x, y + shift, x - 2, y + shift + 6], fill=150)
    tall = Image.new("L", (SIZE, 2 * SIZE))
    tall.paste(mask, (0, 0))
    tall.paste(mask, (0, SIZE))
    return tall
