"""One's own videos, a file or a folder of them, through f_A or a baseline."""

import hashlib
import logging
import os
import re
import secrets
import shlex
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from spact_lib.apps.transcode import Result, transcode
from spact_lib.baselines import BASELINES
from spact_lib.device import out_of_memory, pick_device
from spact_lib.errors import DiskError, UserError, unknown_name
from spact_lib.experiments import anonymize_uint8, to_tensor, to_uint8
from spact_lib.files import atomic_path, disk_errors
from spact_lib.filework import cores
from spact_lib.methods import METHODS
from spact_lib.networks.anonymizer import SMALLEST, Anonymizer, read_config
from spact_lib.obfuscation import OBFUSCATIONS, coco, mask, obfuscation
from spact_lib.paths import runs_root
from spact_lib.video import open_video

# In a folder, what else lies there (texts, pictures, thumbnails) is left out; a file given by name is always tried.
SUFFIXES = frozenset(
    ".264 .265 .360 .3g2 .3gp .asf .avi .dav .divx .dv .f4v .flv .gif .h264 .h265 .hevc .insv .ivf .lrv .m2ts .m2v "
    ".m4v .mjpeg .mkv .mod .mov .mp4 .mpeg .mpg .mts .mxf .nut .ogg .ogv .qt .rm .rmvb .tod .ts .vob .webm "
    ".wmv .y4m".split()
)
NOT_OFFERED = {
    "raw": "raw hides nothing, so its output would only look safe",
    "noise_features": "noise_features is not offered: it hides by noise that is drawn for each frame of a dataset",
}

DRAWN = re.compile("mini-.*/")  # how a spec calls built-in data; the name of one's own has no slash

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoMethod:
    """A function of frames, uint8 RGB (n, h, w, 3) -> uint8 RGB (n, h', w', 3).

    ``key`` names it with its weights; ``short_side`` is the frame size it was learned and judged at (what learns
    nothing: None); ``warning`` is what whoever publishes its output must know (``warning``).
    """

    name: str
    key: str
    short_side: int | None
    apply: Callable[[np.ndarray], np.ndarray]
    warning: str = ""


@dataclass(frozen=True)
class Settings:
    """How videos are released; see ``transcode``. ``short_side`` None: the method's own."""

    short_side: int | None = None
    keep_size: bool = True
    keep_audio: bool = False
    steady: bool = False
    overwrite: bool = False


def load_method(name: str) -> VideoMethod:
    """By name a baseline, or persons blackened or blurred; or the f_A of a folder that ``spact export`` made.

    Raises:
        UserError: none of these; one that is not offered; the person detector's weights are neither on this machine nor
            to be had; a folder that ``Anonymizer.from_pretrained`` refuses.
    """
    if name in NOT_OFFERED:
        raise UserError(f"{NOT_OFFERED[name]}; choose another anonymizer")
    if name in BASELINES:
        return VideoMethod(name, name, None, lambda frames: to_uint8(BASELINES[name](to_tensor(frames))))
    if name in OBFUSCATIONS:
        return VideoMethod(name, name, None, _obfuscated(name))
    if not Path(name).is_dir():
        if os.sep in name and not Path(name).exists():
            raise UserError(f"there is no folder {name}; `spact export {shlex.quote(name)}` makes it")
        if name in METHODS:
            raise UserError(f"{name} is learned; `spact export FOLDER --method {name}` makes a folder of it, give that")
        legal = [*(BASELINES.keys() | OBFUSCATIONS.keys()) - NOT_OFFERED.keys(), "a folder that `spact export` made"]
        raise unknown_name("anonymizer", name, legal)
    config, f_A = read_config(name), Anonymizer.from_pretrained(name).to(pick_device())
    return VideoMethod(
        f"{config.get('method')} ({name})",
        config["sha256"][:16],
        config["short_side"],
        lambda frames: anonymize_uint8(f_A, frames, config["precision"]),
        warning(config),
    )


def warning(config: dict) -> str:
    """Why what an exported f_A releases hides nobody; "" where its ``config.json`` tells no reason.

    Read from what every config holds, so that folders exported earlier are told apart too.
    """
    spec = config["spec"]
    if config.get("method") == "identity":
        return "identity is f_A as it is before the game: it gives every picture back, so it hides nobody"
    start = spec.get("f_T", {}).get("f_A", spec)
    match start:
        case {"action": {"name": str(name)}} if DRAWN.match(name):
            return "it learned from drawn pictures, not people, and protects nobody; export one learned on real videos"
    if config.get("profile") == "smoke":
        return "profile smoke only tries whether training runs, so it protects nobody; export one of mini or paper"
    return ""


def _obfuscated(name: str) -> Callable[[np.ndarray], np.ndarray]:
    obfuscate, find = obfuscation(name), coco()

    def apply(frames: np.ndarray) -> np.ndarray:
        persons = mask(find(0, np.arange(len(frames)), frames), *frames.shape[1:3])
        return to_uint8(obfuscate(to_tensor(frames), persons))

    return apply


def plan(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Which file becomes which: (video, MP4) pairs.

    A file becomes ``target``, or ``target/NAME.mp4`` where that is a folder. The videos of a folder, by their suffix
    and at any depth, become MP4 files of the same names in the same folders under ``target``; several that differ in
    their suffix alone keep it (a.avi.mp4, a.mov.mp4). Other files that are not hidden are counted in the log; folders
    behind symbolic links are not entered.

    Raises:
        UserError: no input; one lies within the other; a new folder named like a video; no video; two for one name.
    """
    if source.is_dir():
        inside, outside = source.resolve(), target.resolve()
        if inside.is_relative_to(outside) or outside.is_relative_to(inside):
            raise UserError(f"{target} and {source} lie within each other; choose a separate folder for the output")
        if target.exists() and not target.is_dir():
            raise UserError(f"{target} is a file, but {source} is a folder; give a folder for the output")
        if not target.exists() and target.suffix.lower() in SUFFIXES:
            raise UserError(f"{target} is named like a video, but {source} is a folder; name a folder for the output")
        names = [path.relative_to(source) for path in sorted(source.rglob("*"))]
        names = [name for name in names if not any(part.startswith(".") for part in name.parts)]
        found = [name for name in names if (source / name).is_file()]
        videos = [name for name in found if name.suffix.lower() in SUFFIXES]
        if not videos:
            raise UserError(f"{source} holds no file with the suffix of a video; give a file, or another folder")
        suffixes = [name.suffix.lower() for name in found]
        if others := Counter(suffix or "without suffix" for suffix in suffixes if suffix not in SUFFIXES):
            listed = ", ".join(f"{suffix} ({n})" for suffix, n in others.most_common())
            log.info("not taken for videos: %s; one given by its name is tried", listed)
        stems = {name: str(name.with_suffix("")).casefold() for name in videos}  # not every disk tells A.mp4 from a.mp4
        alike = Counter(stems.values())
        whole = {name: None for name in videos if alike[stems[name]] > 1}  # a set in order
        if whole:
            log.info("keep their suffixes, as others are called alike: %s", ", ".join(map(str, whole)))
        pairs = [
            (source / name, target / (f"{name}.mp4" if name in whole else name.with_suffix(".mp4"))) for name in videos
        ]
        first: dict[str, Path] = {}
        for path, out in pairs:
            if (other := first.setdefault(str(out).casefold(), path)) != path:
                raise UserError(f"{other} and {path} would both become {out}; rename one of them")
        return pairs
    if target.is_dir():
        target = target / f"{source.stem}.mp4"
    if not source.exists():
        raise UserError(f"there is no file or folder {source}; check the path")
    if target.suffix.lower() != ".mp4":
        raise UserError(f"the output {target} must be a name that ends in .mp4, or a folder that exists; make it first")
    if target.exists() and source.exists() and target.samefile(source):
        raise UserError(f"{target} is the input itself; choose another name for the output")
    return [(source, target)]


def check_settings(method: VideoMethod, settings: Settings, jobs: int) -> None:
    """Refuse what is wrong whatever the videos are.

    Raises:
        UserError: a frame size that the method cannot take, or no job.
    """
    asked, least = settings.short_side, SMALLEST if method.short_side else 1
    if asked is not None and asked < least:
        raise UserError(f"{method.name} cannot take frames with a short side of {asked} pixels; give at least {least}")
    if jobs < 1:
        raise UserError(f"{jobs} videos at a time is too few; give at least 1")


def anonymize(
    pairs: list[tuple[Path, Path]],
    method: VideoMethod,
    settings: Settings,
    jobs: int = 1,
    *,
    stop_at_first: bool = False,
) -> tuple[dict[Path, Result], dict[Path, str]]:
    """Write the videos of a ``plan``, several at a time, each complete or not at all; log a line for each.

    What an earlier run has made of the same video with the same anonymizer and settings is skipped.

    Args:
        stop_at_first: raise for the first file that cannot be done, instead of going on without it.

    Returns:
        What was done, by output; why a file was not, by input.

    Raises:
        UserError: as ``check_settings``.
    """
    check_settings(method, settings, jobs)
    side = method.short_side if settings.short_side is None else settings.short_side
    if method.short_side and side != method.short_side:
        log.warning(
            "%s learned and was judged at a short side of %d pixels; what it hides at %d is not known",
            method.name, method.short_side, side,
        )  # fmt: skip
    # The only metadata of an output: it tells what made it, of what, and that it is no original.
    size = "input" if settings.keep_size else "processed"
    sound = "kept" if settings.keep_audio else "removed"
    comment = f"anonymized by spact: {method.key}, short side {side or 'as stored'}, size {size}, sound {sound}"
    comment += ", steady" * settings.steady
    secret = _secret()
    threads, stop = max(1, cores() // max(1, min(jobs, len(pairs)))), threading.Event()
    done, failed = {}, {}

    def check() -> None:
        if stop.is_set():
            raise KeyboardInterrupt

    def work(source: Path, target: Path) -> Result | None:
        def advance(part: float) -> None:
            check()
            ahead[source] -= part * weights[source]
            bar.update(part * weights[source])

        bar.set_postfix_str(f"reading {source.name}")
        made = f"{comment}, source {_digest(source, secret, comment, check)}"
        if target.exists() and not settings.overwrite:
            if _comment(target) == made:
                return None
            raise UserError(
                f"{target} is there, and made otherwise or of another video than {source}; give --overwrite, or "
                "another output"
            )
        bar.set_postfix_str("")
        try:
            return transcode(
                source, target, method.apply, short_side=side, keep_size=settings.keep_size,
                keep_audio=settings.keep_audio, steady=settings.steady, comment=made, threads=threads,
                on_frames=advance, check=check,
            )  # fmt: skip
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise UserError(
                f"{source} has frames too large for this machine's memory; give a --short-side, or fewer --jobs"
            ) from error

    weights = {source: source.stat().st_size if source.exists() else 0 for source, _ in pairs}
    ahead = dict(weights)  # what of them is still to come
    with (
        _torch_threads(threads),
        logging_redirect_tqdm(),
        # Bytes of the input stand for time: to count all frames first would mean to read everything twice.
        tqdm(total=sum(weights.values()), unit="B", unit_scale=True, desc="anonymize", disable=None) as bar,
        ThreadPoolExecutor(jobs) as pool,
    ):
        running = {pool.submit(work, *pair): pair for pair in pairs}
        try:
            for future in as_completed(running):
                source, target = running[future]
                bar.total -= ahead[source]  # of what was skipped or failed: it takes no time any more
                bar.refresh()
                try:
                    result = future.result()
                except UserError as error:
                    if stop_at_first or isinstance(error, DiskError):
                        raise
                    failed[source] = str(error)
                    log.error("error: %s", error)
                    continue
                if result is None:
                    log.info("%s: finished earlier", target)
                    continue
                done[target] = result
                log.info("%s: %s", target, describe(result, settings.steady))
        except BaseException:
            # The others stop after their batch and remove what they began.
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return done, failed


def describe(result: Result, steady: bool = False) -> str:
    """One line for a reader; ``steady`` as it was made."""
    sizes = " -> ".join(f"{width}x{height}" for width, height in (result.size, result.processed, result.released))
    frames = f"{result.frames} frame{'s' * (result.frames != 1)}"
    trembles = " (--steady lowers it)" if result.flicker > result.change and not steady else ""
    return (
        f"{frames}, {result.duration_s:.2f} s, {sizes}; {result.frames / result.seconds:.1f} frames/s, "
        f"{result.method_seconds / result.seconds:.0%} of the time in the anonymizer; flicker {result.flicker:.2f} "
        f"beside a change of {result.change:.2f} in the input{trembles}; sound {result.audio}"
        f"{''.join(f'; {n}' for n in result.notes)}"
    )


def _secret() -> bytes:
    """The key of this store's digests, made once."""
    path = runs_root() / "anonymize.key"
    if not path.exists():
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):
                if not path.exists():
                    with atomic_path(path) as temporary:
                        temporary.touch(0o600)
                        temporary.write_text(secrets.token_hex(32))
    return path.read_bytes()


def _digest(path: Path, secret: bytes, settings: str, check: Callable[[], None]) -> str:
    """What tells one input from another, whatever they are called and however alike they are in length and size.

    Keyed: a plain digest would let whoever has the original, or a list of digests, prove that a release was made of it.
    Of the settings too: two releases of one video, joined, may tell more than either, and equal digests would say which
    belong together.

    Args:
        check: called for every block, and may raise to stop.
    """
    if not path.is_file():  # a pipe would never end
        raise UserError(f"there is no file {path}; check the path")
    try:
        with path.open("rb") as file:
            found = hashlib.blake2b(f"{settings}\n".encode(), key=secret, digest_size=8)
            while block := file.read(2**20):
                check()
                found.update(block)
            return found.hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); check the path") from error


def _comment(path: Path) -> str | None:
    """What ``transcode`` wrote into an MP4 file; None if it is no video."""
    try:
        with open_video(path) as (container, _):
            return container.metadata.get("comment")
    except UserError:
        return None


@contextmanager
def _torch_threads(n: int) -> Iterator[None]:
    """``n`` threads for torch in each of several Python threads, so that all together fill the machine once."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
