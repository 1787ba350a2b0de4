import sys
import wave

import numpy as np
import pytest
import soundfile
import torch

from nas_compress.data import fsdd, speech_folder
from nas_compress.data.features import LogMel
from nas_compress.data.speech import CHARACTERS, SpeechSplit, Vocabulary, check_fit_speech
from nas_compress.errors import DataError, MissingExtraError


def write_wav(path, samples, rate=16_000, channels=1, width=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples, dtype="<i2").tobytes())


def noise(seed, count=1_600):
    return np.random.default_rng(seed).integers(-3_000, 3_000, count)


@pytest.fixture
def folder(tmp_path):
    """LibriSpeech's layout, with WAV in place of FLAC."""
    for part, count in (("train-clean-100", 12), ("test-clean", 3)):
        chapter = tmp_path / part / "19" / "198"
        lines = []
        for i in range(count):
            write_wav(chapter / f"19-198-{i:04}.wav", noise(i, 1_600 + 80 * i))
            lines.append(f"19-198-{i:04} WORD NUMBER {'ABCDEFGHIJKL'[i]}")
        (chapter / "19-198.trans.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_a_folder_in_librispeechs_layout(folder):
    data = speech_folder.load(folder)
    assert [len(part) for part in (data.train, data.val, data.test)] == [11, 1, 3]
    texts = {*data.train.transcripts, *data.val.transcripts}
    assert texts == {f"WORD NUMBER {c}" for c in "ABCDEFGHIJKL"}
    assert list(data.train.transcripts) != sorted(data.train.transcripts)
    index = data.train.transcripts.index("WORD NUMBER C") if "WORD NUMBER C" in data.train.transcripts else 0
    number = "ABCDEFGHIJKL".index(data.train.transcripts[index][-1])
    waveform = data.train.waveform(index)
    assert torch.equal(waveform, torch.from_numpy(noise(number, 1_600 + 80 * number) / 32768).float())
    assert data.train.features(index).shape == (1 + len(waveform) // 160, 80)
    again = speech_folder.load(folder)
    assert again.fingerprint == data.fingerprint and again.train.transcripts == data.train.transcripts


def test_fingerprints_follow_contents(folder):
    before = speech_folder.load(folder).fingerprint
    assert speech_folder.load(folder, LogMel(16_000, 40)).fingerprint != before
    file = folder / "test-clean" / "19" / "198" / "19-198.trans.txt"
    file.write_text(file.read_text().replace("NUMBER A", "NUMBER Z"))
    assert speech_folder.load(folder).fingerprint != before


def test_a_folder_with_tables_and_a_validation_part(tmp_path):
    for part, count in (("train", 4), ("dev", 2), ("test", 1)):
        rows = ["text\tpath"]
        for i in range(count):
            write_wav(tmp_path / part / "audio" / f"{i}.wav", noise(i), 8_000)
            rows.append(f"say '{i}\taudio/{i}.wav")
        (tmp_path / part / "list.tsv").write_text("\n".join(rows), encoding="utf-8-sig" if part == "dev" else "utf-8")
    words = Vocabulary(("say", *(f"'{i}" for i in range(4))), " ")
    data = speech_folder.load(tmp_path, LogMel(8_000, 30), words)
    assert [len(part) for part in (data.train, data.val, data.test)] == [4, 2, 1]
    batch = next(data.test.batches(5))
    assert batch.tokens.tolist() == [[3, 4]] and batch.features.shape == (1, 21, 30)


def test_batches_are_padded_and_know_their_lengths(folder):
    data = speech_folder.load(folder)
    batch = data.train.batch([0, 1, 2])
    for row, (features, text) in enumerate(zip(batch.features, batch.transcripts, strict=True)):
        assert torch.equal(features[: batch.lengths[row]], data.train.features(row))
        assert not features[batch.lengths[row] :].any()
        tokens = batch.tokens[row, : batch.token_lengths[row]].tolist()
        assert CHARACTERS.decode(tokens) == text
        assert batch.previous[row, : len(tokens) + 1].tolist() == [1, *tokens]
        assert batch.following[row, : len(tokens) + 1].tolist() == [*tokens, 2]
        assert not batch.following[row, len(tokens) + 1 :].any()
    drawn = [b.transcripts for b in data.train.batches(4, generator=torch.Generator().manual_seed(0))]
    assert [len(b) for b in drawn] == [4, 4, 3]
    assert sorted(t for b in drawn for t in b) == sorted(data.train.transcripts)
    limited = [b.transcripts for b in data.train.batches(4, limit=6)]
    assert [t for b in limited for t in b] == list(data.train.transcripts[:6])


def test_stereo_gives_the_first_channel(tmp_path):
    samples = noise(0, 200)
    write_wav(tmp_path / "a.wav", samples, channels=2)
    expected = torch.from_numpy(samples[::2] / 32768).float()
    assert torch.equal(speech_folder.read_audio(tmp_path / "a.wav", 16_000), expected)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.unlink(), "no recording at .*19-198-0001.wav|no recording at .*flac"),
        (lambda f: (f.parent / "19-198.trans.txt").write_text("19-198-0000\n"), "line 1: want an utterance's name"),
        (lambda f: (f.parent / "19-198.trans.txt").write_text("19-198-0000 Été\n"), "holds 'É', which the vocab"),
        (lambda f: (f.parent / "19-198.trans.txt").write_bytes(b"19-198-0000 \xff\n"), "cannot read .*trans.txt"),
        (lambda f: (f.parent / "19-198.trans.txt").unlink(), "has no folder test..."),
        (lambda f: (f.parent / "list.tsv").write_text("file\ttext\n"), "wants the columns path and text"),
        (lambda f: (f.parent / "list.tsv").write_text("path\ttext\na.wav\t\n"), "line 2: path or text is missing"),
        (lambda f: (f.parent / "list.tsv").write_text("path\ttext\na.wav\t" + 140_000 * "A"), "line 2: field larger"),
    ],
)
def test_damaged_folders(folder, damage, message):
    damage(folder / "test-clean" / "19" / "198" / "19-198-0001.wav")
    with pytest.raises(DataError, match=message):
        speech_folder.load(folder)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: write_wav(p, noise(0), 8_000), "has 8000 samples a second; want 16000"),
        (lambda p: write_wav(p, []), "is empty"),
        (lambda p: (write_wav(p, noise(0)), p.write_bytes(p.read_bytes()[:-1_600])), "it has 1600 of the 3200 bytes"),
        (lambda p: (write_wav(p, noise(0)), p.write_bytes(p.read_bytes()[:-1])), "it has 3199 of the 3200 bytes"),
        (lambda p: p.write_bytes(b"RIFF"), "damaged"),
        (lambda p: p.write_bytes(b"nothing of that kind"), "damaged"),
        (lambda p: None, "no recording at"),
    ],
)
def test_damaged_recordings(tmp_path, write, message):
    write(tmp_path / "a.wav")
    for look in (speech_folder.read_audio, speech_folder.check_audio):
        with pytest.raises(DataError, match=message):
            look(tmp_path / "a.wav", 16_000)


@pytest.mark.parametrize("part", ["train-clean-100", "test-clean"])
def test_headers_of_recordings_are_checked_when_a_folder_is_loaded(folder, part):
    wav = folder / part / "19" / "198" / "19-198-0001.wav"
    write_wav(wav, noise(0), 8_000)
    with pytest.raises(DataError, match=r"0001\.wav has 8000 samples a second; want 16000"):
        speech_folder.load(folder)
    write_wav(wav, noise(0))
    wav.write_bytes(wav.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"0001\.wav \(cut off\?\): it has 3100 of the 3200 bytes"):
        speech_folder.load(folder)


def test_flac_is_read_as_wav_is(folder):
    before = speech_folder.load(folder)
    for wav in folder.rglob("*.wav"):
        samples = np.frombuffer(wav.read_bytes()[44:], "<i2")
        soundfile.write(wav.with_suffix(".flac"), samples, 16_000)
        wav.unlink()
    data = speech_folder.load(folder)
    assert data.train.transcripts == before.train.transcripts
    chapter = folder / "test-clean" / "19" / "198"
    for i, transcript in enumerate(data.test.transcripts):
        number = "ABCDEFGHIJKL".index(transcript[-1])
        expected = torch.from_numpy(noise(number, 1_600 + 80 * number) / 32768).float()
        assert torch.equal(data.test.waveform(i), expected)
    soundfile.write(chapter / "19-198-0001.flac", noise(0).astype(np.int16), 8_000)
    with pytest.raises(DataError, match="8000 samples a second"):
        speech_folder.load(folder)
    (chapter / "19-198-0001.flac").write_bytes(b"fLaC and no more")
    with pytest.raises(DataError, match=r"0001\.flac \(damaged\?\)"):
        speech_folder.load(folder)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFF000])
def test_recordings_that_were_written_to_a_pipe_are_read(tmp_path, length):
    """Whoever writes a header before the length is known names one that no file has: ffmpeg, sox."""
    write_wav(tmp_path / "a.wav", noise(0))
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[:40] + length.to_bytes(4, "little") + content[44:])
    expected = torch.from_numpy(noise(0) / 32768).float()
    assert torch.equal(speech_folder.read_audio(tmp_path / "a.wav", 16_000), expected)
    assert speech_folder.check_audio(tmp_path / "a.wav", 16_000) == len(content)


def test_a_stream_of_two_channels_with_a_title_is_read(tmp_path):
    """ffmpeg writes a list of titles before the samples: the header's size is no whole number of frames off."""
    write_wav(tmp_path / "a.wav", noise(0), channels=2)
    content = (tmp_path / "a.wav").read_bytes()
    titles = b"LIST" + (26).to_bytes(4, "little") + b"INFOISFT" + (14).to_bytes(4, "little") + b"Lavf60.16.100\0"
    stream = (
        content[:4] + b"\xff\xff\xff\xff" + content[8:36] + titles + content[36:40] + b"\xff\xff\xff\xff" + content[44:]
    )
    (tmp_path / "a.wav").write_bytes(stream)
    expected = torch.from_numpy(noise(0)[::2] / 32768).float()
    assert torch.equal(speech_folder.read_audio(tmp_path / "a.wav", 16_000), expected)
    assert speech_folder.check_audio(tmp_path / "a.wav", 16_000) == len(stream)


def test_other_formats_need_soundfile(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    (tmp_path / "a.flac").write_bytes(b"fLaC")
    write_wav(tmp_path / "b.wav", noise(0), width=1)
    for name in ("a.flac", "b.wav"):
        with pytest.raises(MissingExtraError, match=r"soundfile is not installed, and .* not 16-bit WAV.*\[speech\]"):
            speech_folder.read_audio(tmp_path / name, 16_000)
        with pytest.raises(MissingExtraError, match="soundfile is not installed"):
            speech_folder.check_audio(tmp_path / name, 16_000)


def test_vocabularies():
    words = Vocabulary(("one", "two"), " ")
    assert words.size == 5 and words.encode(" one  two") == [3, 4]
    assert words.decode([1, 4, 3, 0, 2]) == "two one"
    assert CHARACTERS.size == 31
    for wrong in ((), ("a", "a")):
        with pytest.raises(DataError, match="distinct texts"):
            Vocabulary(wrong)
    with pytest.raises(DataError, match="transcript of utterance 1 is empty"):
        SpeechSplit(["one", " "], lambda i: torch.zeros(9), LogMel(), words, keep=False)


def test_spoken_digits(shared_data):
    data = fsdd.load(shared_data / "fsdd")
    assert [len(part) for part in (data.train, data.val, data.test)] == [2430, 270, 300]
    for part in (data.train, data.val, data.test):
        counts = [part.transcripts.count(digit) for digit in fsdd.DIGITS]
        assert max(counts) - min(counts) <= 0.2 * len(part) / 10
        beginning = [part.transcripts[:100].count(digit) for digit in fsdd.DIGITS]
        assert min(beginning) >= 8
    with np.load(shared_data / "fsdd" / fsdd.FILE) as arrays:
        audio, offsets, index = arrays["audio"], arrays["offsets"], arrays["index"]
    held = {audio[offsets[i] : offsets[i + 1]].tobytes() for i in np.flatnonzero(index < 5)}
    found = {(data.test.waveform(i) * 32768).numpy().astype(np.int16).tobytes() for i in range(300)}
    assert found == held
    check_fit_speech(data, 40, 13)
    with pytest.raises(DataError, match="features of 40 mel bands, the net takes 80"):
        check_fit_speech(data, 80, 13)
    with pytest.raises(DataError, match="has 13 tokens, the net knows 5000"):
        check_fit_speech(data, 40, 5000)
    with pytest.raises(DataError, match="split = 'dev' is not a part"):
        data.split("dev")


def test_some_speakers(shared_data):
    data = fsdd.load(shared_data / "fsdd", ("theo",))
    assert [len(part) for part in (data.train, data.val, data.test)] == [405, 45, 50]
    assert data.fingerprint != fsdd.load(shared_data / "fsdd", ("jackson",)).fingerprint
    with pytest.raises(DataError, match="speaker 'nobody' is not in the data; known: george, jackson"):
        fsdd.load(shared_data / "fsdd", ("nobody",))


def test_missing_and_damaged_spoken_digits(tmp_path):
    with pytest.raises(DataError, match="no file .*fsdd_8k_int16.npz"):
        fsdd.load(tmp_path)
    (tmp_path / fsdd.FILE).write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="cannot read .*damaged"):
        fsdd.load(tmp_path)
    np.savez(tmp_path / fsdd.FILE, audio=np.zeros(3))
    with pytest.raises(DataError, match="without audio, offsets"):
        fsdd.load(tmp_path)


DIGITS = {
    "audio": np.ones(60, np.int16),
    "offsets": np.arange(0, 61, 6),
    "labels": np.arange(10) % 2,
    "speaker": np.zeros(10, np.int64),
    "speakers": np.array(["theo"]),
    "index": np.arange(10),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"audio": np.ones(60)}, "audio is float64 of shape .60,.; want int16"),
        ({"offsets": np.arange(0, 61.0, 6)}, "offsets is float64 .* want whole numbers of shape .11,"),
        ({"offsets": np.arange(0, 55, 6)}, "offsets is int64 of shape .10,.; want whole numbers of shape .11,"),
        ({"offsets": np.arange(0, 71, 7)}, "offsets do not rise from 0 to 60"),
        ({"labels": np.full(10, 12)}, "labels holds 12 to 12; want 0 to 9"),
        ({"labels": np.arange(10) - 1}, "labels holds -1 to 8; want 0 to 9"),
        ({"labels": np.array(["0"] * 10)}, "labels is <U1 .* want whole numbers"),
        ({"speaker": np.ones(10, np.int64)}, "speaker holds 1 to 1; want 0 to 0"),
        ({"index": np.arange(9)}, "index is int64 of shape .9,.; want whole numbers of shape .10,"),
        ({"index": np.arange(5, 15)}, "no test utterances .recordings below 5. of its speakers"),
        ({"index": np.arange(10) % 5}, "test utterances alone"),
    ],
)
def test_spoken_digits_that_do_not_fit_together(tmp_path, change, message):
    np.savez(tmp_path / "own.npz", **DIGITS)
    assert len(fsdd.load(tmp_path / "own.npz").test) == 5
    np.savez(tmp_path / "own.npz", **DIGITS | change)
    with pytest.raises(DataError, match=message):
        fsdd.load(tmp_path / "own.npz")


def test_tables_name_recordings_anywhere(tmp_path):
    for part in ("train", "test"):
        (tmp_path / "data" / part).mkdir(parents=True)
        for number in range(3):
            write_wav(tmp_path / f"{part}{number}.wav", noise(number))
        rows = [f"{tmp_path}/{part}{number}.wav\tWORD" for number in range(3)]
        (tmp_path / "data" / part / "list.tsv").write_text("\n".join(["path\ttext", *rows]))
    data = speech_folder.load(tmp_path / "data")
    assert (len(data.train), len(data.val), len(data.test)) == (2, 1, 3)
    (tmp_path / "data" / "test" / "list.tsv").write_text("path\ttext\n" + 400 * "a" + ".wav\tWORD\n")
    with pytest.raises(DataError, match="no recording at .*: File name too long"):
        speech_folder.load(tmp_path / "data")
