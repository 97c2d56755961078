"""Any source becomes 16 kHz int16 of the exact length, or one line says why not."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stenopool.errors import MediaError, MediaMissing, MediaUnreadable
from tests import sounds
from workers.media import BLOCK, Decoder, Probe, probe
from workers.resample import Resampler, exact_count, mix_weights
from workers.source import SEALED

REAL = Path(__file__).parents[2].parent / "shared/audio"
RATES = [8000, 11025, 16000, 22050, 24000, 44100, 48000, 96000]
FASTSTART = {"movflags": "faststart"}

Pcm = npt.NDArray[np.int16]


def decoded(path: Path, *, split: bool = False) -> tuple[Pcm, Decoder]:
    """All that a source gives, and the decoder after it gave it."""
    with Decoder(path, split=split) as decoder:
        blocks = [np.zeros((decoder.channels, 0), np.int16), *decoder]
    return np.concatenate(blocks, axis=1), decoder


def heard(pcm: Pcm) -> tuple[float, float]:
    """When the first row is loud, from and to, in seconds."""
    loud = np.flatnonzero(np.abs(pcm[0].astype(int)) > 3000)
    return loud[0] / 16_000, loud[-1] / 16_000


def damaged(path: Path, start: float, end: float) -> Path:
    """The file with zeros between those shares of its length."""
    data = bytearray(path.read_bytes())
    first, last = int(len(data) * start), int(len(data) * end)
    data[first:last] = bytes(last - first)
    path.write_bytes(data)
    return path


def cut(path: Path, share: float) -> Path:
    """The file with only that share of its bytes."""
    os.truncate(path, int(path.stat().st_size * share))
    return path


# exact samples


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", RATES)
def test_the_count_of_samples_is_exact_at_every_rate_and_layout(tmp_path: Path, rate: int, channels: int) -> None:
    """N samples at rate R give N * 16000 / R, halves rounded up, whole and split."""
    samples = sounds.noise(1.2345, rate=rate, channels=channels)
    for suffix in ("wav", "flac"):
        source = sounds.write(tmp_path / f"a.{suffix}", samples, rate=rate)
        for split in (False, True):
            pcm, decoder = decoded(source, split=split)
            expected = (samples.shape[1] * 16_000 * 2 + rate) // (2 * rate)
            assert pcm.shape == (channels if split else 1, expected)
            assert (decoder.samples, decoder.damaged, decoder.ended_early) == (expected, 0, None)


@given(rate=st.sampled_from([5512, 11025, 22050, 44056, 44100, 47999, 48000, 352_800]), samples=st.integers(1, 3000))
@settings(max_examples=60, deadline=None)
def test_the_count_is_exact_for_any_length(rate: int, samples: int) -> None:
    """Also for a handful of samples, fewer than the filter is long, and for rates that share no factor with 16 kHz."""
    resampler = Resampler(1)
    frame = av.AudioFrame.from_ndarray(np.full((1, samples), 99, np.int16), format="s16", layout="mono")
    frame.sample_rate = rate
    pieces = [*resampler.push(frame), *resampler.finish()]
    assert sum(piece.shape[1] for piece in pieces) == exact_count(Fraction(samples, rate))


def test_sixteen_kilohertz_mono_is_kept_bit_for_bit(tmp_path: Path) -> None:
    """What needs no change gets none."""
    samples = np.random.default_rng(1).integers(-32_768, 32_768, (1, 50_000), np.int16)
    for name in ("a.wav", "a.flac"):
        assert np.array_equal(decoded(sounds.write(tmp_path / name, samples))[0], samples)


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate != 16_000])
def test_a_tone_keeps_its_place_and_height(tmp_path: Path, rate: int) -> None:
    """Resampling shifts nothing: away from the edges, each sample is the ideal one to the last bit or two."""
    pcm, _ = decoded(sounds.write(tmp_path / "a.wav", sounds.tone(1, rate=rate), rate=rate))
    error = pcm[0].astype(int) - sounds.tone(1)
    assert np.abs(error[200:-200]).max() <= 2


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64"])
def test_every_sample_format_has_the_same_loudness(tmp_path: Path, dtype: str) -> None:
    """Full scale is full scale: 8 to 64 bits, whole numbers or floats."""
    tone = sounds.tone(0.5).astype(np.float64)
    given = {
        "uint8": np.rint(tone / 256 + 128),
        "int32": tone * 65_536,
        "float32": tone / 32_768,
        "float64": tone / 32_768,
    }[dtype].astype(dtype)
    encoder = {"uint8": "pcm_u8", "int32": "pcm_s24le", "float32": "pcm_f32le", "float64": "pcm_f64le"}[dtype]
    pcm, _ = decoded(sounds.write(tmp_path / "a.wav", given, encoder=encoder))
    assert np.abs(pcm[0] - tone).max() <= (128 if dtype == "uint8" else 1)


def test_floats_beyond_full_scale_are_clipped_and_what_is_no_number_is_silence(tmp_path: Path) -> None:
    """A loud float master does not wrap round."""
    samples = np.array([2.0, -2.0, np.nan, 0.5, 1e30], np.float32)
    pcm, _ = decoded(sounds.write(tmp_path / "a.wav", samples, encoder="pcm_f32le"))
    assert pcm[0].tolist() == [32_767, -32_768, 0, 16_384, 32_767]


def test_a_source_reads_the_same_twice(tmp_path: Path) -> None:
    """The hash of the samples names a recording, so they may not vary."""
    source = sounds.write(tmp_path / "a.mp3", sounds.noise(3, rate=44_100, channels=2), rate=44_100)
    assert np.array_equal(decoded(source)[0], decoded(source)[0])


def test_blocks_are_ten_seconds_and_contiguous(tmp_path: Path) -> None:
    """Memory is bounded by the block, and each one can be written as it is."""
    source = sounds.write(tmp_path / "a.wav", sounds.noise(25, rate=8000, channels=2), rate=8000)
    with Decoder(source, split=True) as decoder:
        blocks = list(decoder)
    assert [block.shape for block in blocks] == [(2, BLOCK), (2, BLOCK), (2, 80_000)]
    assert all(block.flags.c_contiguous and block.dtype == np.int16 for block in blocks)


# channels


def test_equal_channels_mix_to_themselves(tmp_path: Path) -> None:
    """Two channels at full scale do not clip, and do not get quieter."""
    samples = np.random.default_rng(2).integers(-32_768, 32_768, 20_000, np.int16)
    pcm, _ = decoded(sounds.write(tmp_path / "a.wav", np.stack([samples, samples])))
    assert np.array_equal(pcm[0], samples)


def test_the_mix_is_the_mean_unless_there_is_a_centre(tmp_path: Path) -> None:
    """Dialogue sits in the centre of a surround mix; the bass channel has none."""
    assert mix_weights(("FL", "FR")) == (0.5, 0.5)
    assert mix_weights(("NONE", "NONE", "NONE", "NONE")) == (0.25,) * 4
    centre = mix_weights(("FL", "FR", "FC", "LFE", "BL", "BR"))
    assert sum(centre) == pytest.approx(1)
    assert (centre[3], max(centre)) == (0, centre[2])


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.m4a", "a.mkv"])
def test_split_channels_keep_their_order(tmp_path: Path, name: str) -> None:
    """Row i of each block is channel i of the source."""
    silence = np.zeros(2 * 48_000, np.int16)
    beeps = np.stack([sounds.beep(2, at=0.25, rate=48_000), silence])
    pcm, decoder = decoded(sounds.write(tmp_path / name, beeps, rate=48_000), split=True)
    assert (decoder.channels, decoder.probe.channels) == (2, 2)
    assert heard(pcm)[0] == pytest.approx(0.25, abs=0.03)
    assert np.abs(pcm[1]).max() < 300


@pytest.mark.parametrize("channels", [8, 16])
def test_eight_channels_and_more_keep_their_content(tmp_path: Path, channels: int) -> None:
    """A meeting room's recorder has many microphones; planar formats of that width are read by hand here."""
    samples = sounds.noise(0.5, channels=channels)
    layout = {8: "7.1", 16: "hexadecagonal"}[channels]
    source = sounds.write(tmp_path / "a.wav", samples, layout=layout)
    assert np.array_equal(decoded(source, split=True)[0], samples)
    if channels == 8:
        lossless = sounds.write(tmp_path / "a.wv", samples, layout=layout)
        with av.open(str(lossless)) as container:
            assert next(container.decode(audio=0)).format.is_planar
        assert np.array_equal(decoded(lossless, split=True)[0], samples)


def test_a_change_of_rate_and_channels_on_the_way_is_followed(tmp_path: Path) -> None:
    """Two recordings joined byte by byte, as some recorders do: the time of both counts."""
    options = {"write_xing": "0", "id3v2_version": "0"}
    first = sounds.write(tmp_path / "1.mp3", sounds.beep(4, at=1, rate=44_100), rate=44_100, options=options)
    stereo = np.stack([sounds.beep(4, at=1, rate=24_000)] * 2)
    second = sounds.write(tmp_path / "2.mp3", stereo, rate=24_000, options=options)
    joined = tmp_path / "joined.mp3"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    pcm, decoder = decoded(joined)
    assert heard(pcm) == pytest.approx((1.05, 5.6), abs=0.15)
    assert decoder.samples == pytest.approx(8 * 16_000, abs=3500)
    joined.write_bytes(second.read_bytes() + first.read_bytes())
    split, _ = decoded(joined, split=True)
    assert split.shape[0] == 2
    for row in split:  # what has one channel is heard on both rows
        assert heard(row[None]) == pytest.approx((1.05, 5.6), abs=0.15)


# containers and codecs


@pytest.mark.parametrize(
    ("name", "codec", "rate", "padding"),
    [
        ("a.mp3", "mp3", 44_100, 0.0),  # the encoder's header tells what to leave out
        ("a.mp2", "mp2", 44_100, 0.05),
        ("a.opus", "opus", 48_000, 0.0),
        ("a.webm", "opus", 48_000, 0.0),
        ("a.mka", "opus", 24_000, 0.0),
        ("a.ogg", "vorbis", 44_100, 0.05),
        ("a.m4a", "aac", 44_100, 0.05),
        ("a.aac", "aac", 44_100, 0.05),
        ("a.wma", "wmav2", 44_100, 0.1),
        ("a.ac3", "ac3", 48_000, 0.05),
        ("a.aiff", "pcm_s16be", 44_100, 0.0),
        ("a.caf", "pcm_s16le", 44_100, 0.0),
        ("a.flv", "mp3", 44_100, 0.05),
        ("a.ts", "aac", 44_100, 0.05),
        ("a.avi", "mp3", 44_100, 0.05),
    ],
)
def test_a_codec_keeps_the_length_and_the_time(
    tmp_path: Path, name: str, codec: str, rate: int, padding: float
) -> None:
    """A beep at second 2 of 5 is there, and no more is added or lost than the codec pads."""
    source = sounds.write(tmp_path / name, np.stack([sounds.beep(5, at=2, rate=rate)] * 2), rate=rate)
    pcm, decoder = decoded(source)
    assert (decoder.probe.codec, decoder.probe.channels, decoder.probe.sample_rate) == (
        codec,
        2,
        48_000 if codec == "opus" else rate,
    )
    assert abs(pcm.shape[1] / 16_000 - 5) <= padding
    assert heard(pcm) == pytest.approx((2, 2.5), abs=0.06)
    assert decoder.ended_early is None


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.avi"])
def test_the_sound_of_a_video_is_its_length(tmp_path: Path, name: str) -> None:
    """Pictures that go on for longer than the sound do not make it end early."""
    source = sounds.write(tmp_path / name, sounds.beep(5, at=2, rate=48_000), rate=48_000, video=20)
    pcm, decoder = decoded(source)
    assert pcm.shape[1] / 16_000 == pytest.approx(5, abs=0.06)
    assert heard(pcm) == pytest.approx((2, 2.5), abs=0.06)
    assert decoder.ended_early is None


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_sound_that_begins_after_the_pictures_is_not_moved_forward(tmp_path: Path, name: str) -> None:
    """Subtitles are read against the pictures, so silence stands for the time before the sound."""
    source = sounds.write(
        tmp_path / name, sounds.beep(4, at=1, rate=48_000), rate=48_000, video=6, audio_from=2, options=FASTSTART
    )
    pcm, decoder = decoded(source)
    assert heard(pcm) == pytest.approx((3, 3.5), abs=0.06)
    assert float(decoder.filled) == pytest.approx(2, abs=0.06)
    assert (decoder.ended_early, decoder.damaged) == (None, 0)


def test_a_probe_tells_what_the_container_says(tmp_path: Path) -> None:
    """Enough to forecast the work, without decoding it."""
    source = sounds.write(tmp_path / "a.flac", sounds.noise(3, rate=22_050, channels=2), rate=22_050)
    assert probe(source) == Probe(
        container="flac", codec="flac", channels=2, sample_rate=22_050, seconds=3.0, announced=True
    )
    bare = sounds.write(tmp_path / "a.aac", sounds.noise(3)[0])
    assert probe(bare).seconds is None


def test_a_suffix_that_lies_does_not_matter(tmp_path: Path) -> None:
    """The content is recognised, not the name."""
    samples = sounds.noise(0.5)
    source = sounds.write(tmp_path / "a.wav", samples)
    assert np.array_equal(decoded(source.rename(tmp_path / "a.mp3"))[0], samples)


def test_tags_in_an_old_encoding_do_no_harm(tmp_path: Path) -> None:
    """A title in Latin-1 is no reason to refuse the sound."""
    source = sounds.write(tmp_path / "a.wav", sounds.noise(0.5), metadata={"title": "Gruesse"})
    source.write_bytes(source.read_bytes().replace(b"Gruesse", b"Gr\xfc\xdfe\xff\xff"))
    assert decoded(source)[0].shape == (1, 8000)


def test_nothing_is_written_to_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """FFmpeg has much to say about a damaged file, and says none of it."""
    decoded(damaged(sounds.write(tmp_path / "a.mp3", sounds.noise(3)[0]), 0.4, 0.5))
    decoded(cut(sounds.write(tmp_path / "a.mp4", sounds.noise(3)[0], options=FASTSTART), 0.7))
    assert capfd.readouterr() == ("", "")


# cut off and damaged


@pytest.mark.parametrize(
    ("name", "share", "line"),
    [
        ("a.wav", 0.7, "the source ends at 0:00:05.6, but its header announces 0:00:08.0"),
        ("a.aiff", 0.7, "the source ends at 0:00:05.6, but its header announces 0:00:08.0"),
        ("a.flac", 0.7, "the source ends at 0:00:05.{}, but its header announces 0:00:08.0"),
        ("a.mp3", 0.7, "the source ends at 0:00:05.{}, but its header announces 0:00:08.0"),
        ("a.mka", 0.7, "the source ends at 0:00:05.{}, but its header announces 0:00:08.0"),
        ("a.mp4", 0.7, "the source ends at 0:00:05.{}, but its header announces 0:00:08.0"),
        ("a.aac", 0.7, "the source is broken off at 0:00:05.{}: its last packet is damaged"),
        ("a.opus", 0.7, "the source is broken off at 0:00:05.{}: its last page is cut"),
    ],
)
def test_a_source_that_was_cut_off_says_so(tmp_path: Path, name: str, share: float, line: str) -> None:
    """What is there is decoded, and one sentence tells where it ended and why that is known."""
    samples = sounds.noise(8, rate=48_000)
    source = cut(
        sounds.write(tmp_path / name, samples, rate=48_000, options=FASTSTART if name == "a.mp4" else {}), share
    )
    pcm, decoder = decoded(source)
    assert pcm.shape[1] / 16_000 == pytest.approx(8 * share, abs=0.7)  # pages and clusters last up to a second
    assert decoder.ended_early in [line.format(tenth) for tenth in range(10)]


def test_a_video_that_was_cut_off_is_measured_by_its_sound(tmp_path: Path) -> None:
    """The track's own length is held against the file, not that of the pictures."""
    source = sounds.write(tmp_path / "a.mkv", sounds.noise(8, rate=48_000), rate=48_000, video=8)
    _, decoder = decoded(cut(source, 0.5))
    assert decoder.ended_early is not None
    assert decoder.ended_early.endswith("but its header announces 0:00:08.0")


def test_the_time_before_the_sound_counts_for_its_end(tmp_path: Path) -> None:
    """Sound that begins two seconds into a video and lasts eight should end at ten."""
    source = sounds.write(
        tmp_path / "a.mp4", sounds.noise(8, rate=48_000), rate=48_000, video=10, audio_from=2, options=FASTSTART
    )
    _, decoder = decoded(cut(source, 0.8))
    assert decoder.ended_early is not None
    assert decoder.ended_early.endswith("but its header announces 0:00:10.0")


@pytest.mark.parametrize("extra", [b"APETAGEX" + bytes(range(200)), b"TAG" + bytes(125), b"LYRICSBEGIN" * 40])
def test_a_tag_after_the_sound_is_neither_damage_nor_an_early_end(tmp_path: Path, extra: bytes) -> None:
    """Old players appended titles and lyrics to an MP3."""
    source = sounds.write(tmp_path / "a.mp3", sounds.noise(3), options={"write_xing": "0"})
    plain = decoded(source)[0]
    source.write_bytes(source.read_bytes() + extra)
    pcm, decoder = decoded(source)
    assert (decoder.damaged, decoder.ended_early) == (0, None)
    assert np.array_equal(pcm[:, : plain.shape[1]], plain)


def test_zeros_before_the_sound_are_passed_over(tmp_path: Path) -> None:
    """A stream that was saved with some padding is still a recording."""
    source = sounds.write(tmp_path / "a.mp3", sounds.noise(3))
    source.write_bytes(bytes(5000) + source.read_bytes())
    assert decoded(source)[1].samples >= 3 * 16_000


def test_a_header_that_promises_nothing_is_not_held_against_the_file(tmp_path: Path) -> None:
    """A WAV from a pipe announces 4 GiB, a live recording nothing, a bare stream has no header at all."""
    source = sounds.write(tmp_path / "a.wav", sounds.noise(3))
    data = bytearray(source.read_bytes())
    at = data.index(b"data") + 4
    for size in (0xFFFF_FFFF, 0x7FFF_F024):
        data[at : at + 4] = struct.pack("<I", size)
        source.write_bytes(data)
        pcm, decoder = decoded(source)
        assert (pcm.shape[1], decoder.ended_early) == (48_000, None)
    live = sounds.write(tmp_path / "a.mka", sounds.noise(3, rate=48_000), rate=48_000, options={"live": "1"})
    assert (decoded(live)[1].ended_early, probe(live).seconds) == (None, None)


@pytest.mark.parametrize("name", ["a.flac", "a.mp4", "a.opus"])
def test_damage_in_the_middle_does_not_move_what_follows(tmp_path: Path, name: str) -> None:
    """Silence stands for what was lost, so a beep after it is where it was."""
    samples = sounds.noise(8, rate=48_000)[0] // 4
    samples[6 * 48_000 : 7 * 48_000] = sounds.tone(1, rate=48_000, hz=1000)
    source = sounds.write(tmp_path / name, samples, rate=48_000, options=FASTSTART if name == "a.mp4" else {})
    whole = decoded(source)[0]
    pcm, decoder = decoded(damaged(source, 0.3, 0.4))
    assert decoder.filled > 0
    assert decoder.ended_early is None
    assert pcm.shape == whole.shape
    error = pcm[0, 96_500:111_500].astype(int) - whole[0, 96_500:111_500]
    assert np.abs(error).max() < 2000


def test_packets_that_do_not_decode_are_counted(tmp_path: Path) -> None:
    """An MP4's index still knows where each packet is and how long it lasts."""
    source = sounds.write(tmp_path / "a.mp4", sounds.noise(8, rate=48_000), rate=48_000, options=FASTSTART)
    _, decoder = decoded(damaged(source, 0.4, 0.5))
    assert decoder.damaged > 10
    assert float(decoder.filled) == pytest.approx(decoder.damaged * 1024 / 48_000)


def test_a_track_that_appears_on_the_way_does_no_harm(tmp_path: Path) -> None:
    """A broadcast changes its programme: the sound that was chosen goes on to its end."""
    sound = sounds.beep(4, at=2, rate=48_000)
    first = sounds.write(tmp_path / "1.ts", sound, rate=48_000)
    second = sounds.write(tmp_path / "2.ts", sound, rate=48_000, video=4)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() * 20 + second.read_bytes())
    assert decoded(joined)[0].shape[1] >= 80 * 16_000


# memory

_GROWTH = """
import resource, sys
from pathlib import Path
from workers.media import Decoder
def peak(path):
    with Decoder(Path(path)) as decoder:
        for _ in decoder: pass
    return decoder.samples, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
_, before = peak(sys.argv[1])
samples, after = peak(sys.argv[2])
print(samples, (after - before) // 1024)
"""


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    """Forty minutes take no more than ten seconds do, within 100 MB."""
    options = {"write_xing": "0", "id3v2_version": "0"}
    short = sounds.write(tmp_path / "s.mp3", sounds.noise(10)[0], bit_rate=32_000, options=options)
    long = tmp_path / "l.mp3"
    long.write_bytes(short.read_bytes() * 240)
    result = subprocess.run(
        [sys.executable, "-c", _GROWTH, short, long],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    samples, growth = map(int, result.stdout.split())
    assert samples >= 40 * 60 * 16_000
    assert growth <= 100  # MB


# refused


def _bytes(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def _tone(suffix: str, change: Callable[[bytes], bytes], **options: str) -> Callable[[Path], object]:
    """A good file of that kind, changed."""

    def make(path: Path) -> None:
        good = sounds.write(path.with_name("good" + suffix), sounds.tone(3, rate=48_000), rate=48_000, options=options)
        path.write_bytes(change(good.read_bytes()))

    return make


def _picture(path: Path) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("png" if path.suffix == ".png" else "mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "rgb24" if path.suffix == ".png" else "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


#: What is given, how it is made, and the one line that it gets after its name.
REFUSED: list[tuple[str, Callable[[Path], object], type[MediaError], str]] = [
    ("gone.wav", lambda path: None, MediaMissing, "does not exist"),
    ("folder", Path.mkdir, MediaMissing, "is a directory; name the files in it"),
    ("pipe.wav", os.mkfifo, MediaMissing, "is not a regular file; save it to one first"),
    ("x" * 300 + ".wav", lambda path: None, MediaMissing, "cannot be opened (File name too long)"),
    ("empty.wav", _bytes(b""), MediaUnreadable, "is empty (0 bytes)"),
    (
        "zeros.mp3",
        _bytes(bytes(50_000)),
        MediaUnreadable,
        "holds only zero bytes, as a download that never finished does; fetch it again",
    ),
    ("notes.txt", _bytes(b"Minutes of the meeting\n" * 9), MediaUnreadable, "is text, not audio or video"),
    ("notes.mp3", _bytes(b"Minutes of the meeting\n" * 999), MediaUnreadable, "is text, not audio or video"),
    ("wide.txt", _bytes("Grüße\n".encode("utf-16") * 1), MediaUnreadable, "is text, not audio or video"),
    ("talk.srt", _bytes(b"1\n00:00:01,000 --> 00:00:02,000\nHi\n"), MediaUnreadable, "is text, not audio or video"),
    (
        "live.m3u8",
        _bytes(b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n"),
        MediaUnreadable,
        "is a playlist that points to other files; name those files instead",
    ),
    (
        "radio.pls",
        _bytes(b"[playlist]\nFile1=http://localhost/a.mp3\n"),
        MediaUnreadable,
        "is a playlist that points to other files; name those files instead",
    ),
    (
        "parts.ffconcat",
        _bytes(b"ffconcat version 1.0\nfile good.wav\n"),
        MediaUnreadable,
        "is a playlist that points to other files; name those files instead",
    ),
    (
        "radio.xspf",
        _bytes(b'<?xml version="1.0"?>\n<playlist><trackList></trackList></playlist>'),
        MediaUnreadable,
        "is a playlist that points to other files; name those files instead",
    ),
    (
        "stream.mpd",
        _bytes(b'<?xml version="1.0"?>\n<MPD type="static"></MPD>'),
        MediaUnreadable,
        "is a playlist that points to other files; name those files instead",
    ),
    (
        "call.sdp",
        _bytes(b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=audio 5004 RTP/AVP 0\r\n"),
        MediaUnreadable,
        "is a session description, not a recording; record the session first",
    ),
    (
        "episode.mp3",
        _bytes(b"\n<!DOCTYPE html><html>Not found</html>"),
        MediaUnreadable,
        "is a web page, not audio or video; download the recording itself",
    ),
    (
        "pointer.wav",
        _bytes(b"version https://git-lfs.github.com/spec/v1\n"),
        MediaUnreadable,
        "is a git LFS pointer, not the recording; run 'git lfs pull'",
    ),
    ("paper.pdf", _bytes(b"%PDF-1.7\n\xe2\xe3"), MediaUnreadable, "is a PDF document, not audio or video"),
    ("all.zip", _bytes(b"PK\x03\x04\x14\0"), MediaUnreadable, "is an archive, not audio or video; unpack it first"),
    ("photo.png", _picture, MediaUnreadable, "is an image, not a recording"),
    ("silent.mp4", _picture, MediaUnreadable, "has no audio track; it is only video"),
    (
        "header.flac",
        _tone(".flac", lambda b: b[: b.index(b"\xff\xf8")]),
        MediaUnreadable,
        "holds no sound: its audio track is empty",
    ),
    (
        "slow.wav",
        _tone(".wav", lambda b: b[:24] + struct.pack("<II", 3, 6) + b[32:278]),
        MediaUnreadable,
        "is damaged: none of its 100 packets can be decoded",
    ),
    (
        "header.wav",
        _tone(".wav", lambda b: b[:20]),
        MediaUnreadable,
        "is not audio or video, or damaged from its first bytes on",
    ),
    (
        "random.mp3",
        _bytes(np.random.default_rng(3).bytes(5000)),
        MediaUnreadable,
        "is not audio or video, or damaged from its first bytes on",
    ),
    (
        "random.aac",
        _bytes(random.Random(2_000_000).randbytes(2_000_000)),
        MediaUnreadable,
        "is not audio or video: hardly anything in it can be decoded",
    ),
    (
        "call.m4a",
        _tone(".m4a", lambda b: b[: b.index(b"moov") - 500]),
        MediaUnreadable,
        "its index (moov) is missing or cut: the recording was not finalised; fetch it again or repair it",
    ),
    (
        "half.m4a",
        _tone(".m4a", lambda b: b[: b.index(b"moov") + 200]),
        MediaUnreadable,
        "its index (moov) is missing or cut: the recording was not finalised; fetch it again or repair it",
    ),
    (
        "locked.m4a",
        _tone(
            ".m4a",
            lambda b: b,
            encryption_scheme="cenc-aes-ctr",
            encryption_key="00112233445566778899aabbccddeeff",
            encryption_kid="00112233445566778899aabbccddeeff",
        ),
        MediaUnreadable,
        "is encrypted; decrypt it first",
    ),
    (
        "shop.m4a",
        _tone(".m4a", lambda b: b.replace(b"mp4a", b"drms")),
        MediaUnreadable,
        "is encrypted; decrypt it first",
    ),
    (
        "future.mkv",
        _tone(".mkv", lambda b: b.replace(b"A_OPUS", b"A_NOPE")),
        MediaUnreadable,
        "its audio is in a codec that FFmpeg does not know; convert it first",
    ),
]


@pytest.mark.parametrize(("name", "make", "kind", "line"), REFUSED, ids=[row[0][:20] for row in REFUSED])
def test_what_is_no_recording_is_refused_in_one_line(
    tmp_path: Path, name: str, make: Callable[[Path], object], kind: type[MediaError], line: str
) -> None:
    """The line begins with the name as it was given; probing and decoding agree."""
    path = tmp_path / name
    make(path)
    for refuse in (probe, Decoder):
        with pytest.raises(kind) as caught:
            refuse(path)
        assert str(caught.value) == f"{path}: {line}"
        assert type(caught.value) is kind


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    """The cure is named."""
    path = sounds.write(tmp_path / "a.wav", sounds.tone(0.1))
    path.chmod(0)
    with pytest.raises(MediaMissing, match=r"a\.wav: permission denied; let this user read it$"):
        probe(path)


def test_a_name_with_a_line_break_stays_on_one_line(tmp_path: Path) -> None:
    """Logs and terminals get one line per error."""
    with pytest.raises(MediaMissing) as caught:
        probe(tmp_path / "a\nb.wav")
    assert str(caught.value) == f"{str(tmp_path / 'a')[:-1]!r}".removesuffix("'") + "a\\nb.wav': does not exist"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.ffconcat", "ffconcat version 1.0\nfile '{}'\n"),
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"),
    ],
)
def test_ffmpeg_itself_may_open_nothing_else(tmp_path: Path, name: str, text: str) -> None:
    """Were a playlist not recognised here, FFmpeg would refuse it, though it would follow it by itself."""
    good = sounds.write(tmp_path / "good.ts", sounds.tone(1), encoder="mp2", container="mpegts")
    playlist = tmp_path / name
    playlist.write_text(text.format(good.name))
    with av.open(str(playlist)) as container:
        assert container.format.name in ("concat", "hls")
        assert next(container.decode(audio=0)).samples
    for option in ("format_whitelist", "protocol_whitelist"):
        with pytest.raises((av.ArgumentError, av.InvalidDataError)):
            av.open(str(playlist), container_options={option: SEALED[option]})


# real speech


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no folder of real speech at {REAL.name}")
@pytest.mark.parametrize(
    ("name", "codec", "channels", "rate", "samples"),
    [
        ("jfk.flac", "flac", 2, 44_100, 176_000),
        ("multilingual.mp3", "mp3", 1, 24_000, 958_400),
        ("hotwords.mp3", "mp3", 2, 44_100, 64_000),
        ("stereo_diarization.wav", "pcm_s16le", 2, 16_000, 80_000),
    ],
)
def test_real_speech_has_its_length(name: str, codec: str, channels: int, rate: int, samples: int) -> None:
    """Clips that people recorded, with the headers that real encoders write."""
    pcm, decoder = decoded(REAL / name)
    assert (decoder.probe.codec, decoder.probe.channels, decoder.probe.sample_rate) == (codec, channels, rate)
    assert (pcm.shape, decoder.damaged, decoder.ended_early) == ((1, samples), 0, None)
    assert 500 < np.abs(pcm).max() < 32_768


def test_the_docs_list_every_refusal() -> None:
    """docs/inputs.md quotes each line as it is."""
    docs = (Path(__file__).parents[2] / "docs" / "inputs.md").read_text()
    assert [line for _, _, _, line in REFUSED if f"| {line} |" not in docs] == []
