"""Files that are no sound videos or images, made for the tests: each a name and the bytes of a file."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from PIL import Image

FRAMES = 20
AVI, MP4, MKV, H264, TS = "a.avi", "a.mp4", "a.mkv", "a.h264", "a.ts"


def noise(frames: int = FRAMES, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (frames, size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
    return small.repeat(8, 1).repeat(8, 2)


def encode(path: Path, codec: str, *, size: tuple[int, int] = (48, 64), times=int, front: bool = False) -> Path:
    """Noise with a keyframe in five frames; ``front``: the index of an MP4 file before its frames."""
    options = {"movflags": "+faststart"} if front else {}
    with av.open(str(path), "w", options=options) as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = size[1], size[0], "yuv420p", 5
        for number, array in enumerate(noise(size=size)):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame.pts = times(number)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def png(width: int, height: int) -> bytes:
    """A picture all black: of 20,000 x 20,000 pixels a megabyte that unpacks to 1.2 GB."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width * 3 + 1)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def without_keyframes(source: Path, target: Path) -> bytes:
    """``source`` again, but its keyframes."""
    with av.open(str(source)) as given, av.open(str(target), "w") as file:
        stream = file.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.dts is not None and not packet.is_keyframe:
                packet.stream = stream
                file.mux(packet)
    return target.read_bytes()


def patched(content: bytes, mark: bytes, at: int, new: bytes) -> bytes:
    """``content`` with ``new`` written ``at`` bytes behind the first ``mark``."""
    place = content.index(mark) + at
    return content[:place] + new + content[place + len(new) :]


def corpus(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of every bad file; ``folder`` is for what they are made of."""
    codecs = {AVI: "mpeg4", MP4: "libx264", MKV: "libx264", H264: "libx264", TS: "mpeg2video"}
    whole = {name: encode(folder / name, codec).read_bytes() for name, codec in codecs.items()}
    whole["front.mp4"] = encode(folder / "front.mp4", "libx264", front=True).read_bytes()
    for name, form in (("a.png", "PNG"), ("a.jpg", "JPEG")):
        Image.fromarray(noise()[0]).save(folder / name, form)
        whole[name] = (folder / name).read_bytes()
    # Cut off at many points.
    for name, content in whole.items():
        for part in (0, 0.001, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.999):
            yield f"cut {part} {name}", content[: int(part * len(content))]
    # Names that promise something else.
    yield "wrong suffix.jpg", whole[MP4]
    yield "wrong suffix.mp4", whole["a.png"]
    yield "wrong suffix.avi", b"not a video\n" * 500
    yield "a list.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n#EXT-X-ENDLIST\n"
    yield "a list.mp4", b"ffconcat version 1.0\nfile a.mp4\n"
    # No frame at all.
    with av.open(str(folder / "none.avi"), "w") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        file.start_encoding()
    yield "no frames.avi", (folder / "none.avi").read_bytes()
    # Another size from the middle on.
    for name, codec in ((H264, "libx264"), (TS, "mpeg2video")):
        yield f"two sizes {name}", whole[name] + encode(folder / f"larger {name}", codec, size=(96, 80)).read_bytes()
    # Nothing to start decoding from.
    for name in (MP4, MKV):
        yield f"no keyframes {name}", without_keyframes(folder / name, folder / f"no keyframes {name}")
    # Frames of years, of nothing, before time began; rates that no camera has.
    for number, times in enumerate((lambda n: n * 10**5, lambda n: n**3 - 1000, lambda n: 2**17 * (n > 9) + n)):
        yield f"times {number}.mkv", encode(folder / f"times {number}.mkv", "libx264", times=times).read_bytes()
        yield f"times {number}.mp4", encode(folder / f"times {number}.mp4", "libx264", times=times).read_bytes()
    for name, scale, rate in (("slow", 2**31 - 1, 1), ("fast", 1, 2**31 - 1), ("no rate", 0, 0)):
        yield f"{name}.avi", patched(whole[AVI], b"strh", 8 + 20, struct.pack("<II", scale, rate))
    yield "years.mp4", patched(whole[MP4], b"mdhd", 4 + 12, struct.pack(">II", 1, 2**32 - 1))
    # Packets with noise in them.
    rng = np.random.default_rng(0)
    for name in codecs:
        for share in (0.001, 0.02, 0.5):
            content = np.frombuffer(whole[name], np.uint8).copy()
            middle = np.arange(len(content) // 5, len(content) * 4 // 5)
            hit = rng.choice(middle, max(1, int(share * len(middle))), replace=False)
            content[hit] = rng.integers(0, 256, len(hit))
            yield f"noise {share} {name}", content.tobytes()
    # A size that no memory holds.
    yield "bomb.png", png(20_000, 20_000)
    yield "thin.png", png(40_000, 2)
    yield "huge.png", patched(whole["a.png"], b"IHDR", 4, struct.pack(">II", 2**31 - 1, 2**31 - 1))
    yield "huge.jpg", patched(whole["a.jpg"], b"\xff\xc0", 5, struct.pack(">HH", 65500, 65500))
    yield "huge.mp4", patched(whole[MP4], b"avc1", 28, struct.pack(">HH", 65535, 65535))
    yield "huge.avi", patched(whole[AVI], b"strf", 12, struct.pack("<ii", 2**20, 2**20))
    yield "huge.gif", b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6) + b"," + bytes(
        struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
    ) + b"\x02\x02\x44\x01\x00;"  # fmt: skip
