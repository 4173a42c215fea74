"""The measured tables in the pages, and `docs/refresh.py`, which writes them."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "refresh.py"
if not SCRIPT.exists():
    pytest.skip("not the whole source tree", allow_module_level=True)

spec = importlib.util.spec_from_file_location("refresh", SCRIPT)
refresh = importlib.util.module_from_spec(spec)
spec.loader.exec_module(refresh)

OUTPUT = """\
**Functions: time**

| | fastact | ratio |
|---|---:|---:|
| `relu` float32 | 1 | 0.5 |
| `tanh` float32 | 2 | 0.6 |
| `tanh` float32 | 2 | **1.6** |

**Rows**

| | fastact | ratio |
|---|---:|---:|
| `softmax` | 3 | 0.7 |

Measured by `fastact bench` on some day.
"""


def blocks():
    for path in refresh.PAGES:
        for block in refresh.BLOCK.finditer(path.read_text(encoding="utf-8")):
            yield pytest.param(block, id=f"{path.name}: {block['lines'] or block['command']}")


@pytest.mark.parametrize("block", list(blocks()))
def test_pages(block):
    """What stands there was written by the command, and is what the comment says."""
    text, lines = block["text"], block["lines"].splitlines()
    assert f"Measured by `{block['command']}` on 20" in " ".join(text.split())
    # Choosing again changes nothing, except that single rows have lost their titles.
    whole = [line for line in lines if " | " not in line]
    if whole == lines:
        assert refresh.chosen(text, lines) == text.strip()
    for cell in (line.partition(" | ")[2] for line in lines if " | " in line):
        assert f"\n| {cell} | " in text


def test_every_comment_is_read():
    """A comment with a mistake in its form would be passed over."""
    assert "<!-- measured on " in refresh.PAGES[0].read_text(encoding="utf-8")
    for path in refresh.PAGES:
        text = path.read_text(encoding="utf-8")
        found = len(refresh.BLOCK.findall(text))
        assert text.count("<!-- measured on ") == text.count("<!-- end -->") == found


def test_chosen():
    *_, source = OUTPUT.strip().split("\n\n")
    assert refresh.chosen(OUTPUT, []) == OUTPUT.strip()
    assert refresh.chosen(OUTPUT, ["Rows"]) == OUTPUT[OUTPUT.index("**Rows") :].strip()
    rows = refresh.chosen(OUTPUT, ["Functions | `tanh` float32", "Rows | `softmax`"])
    assert rows.splitlines() == [
        "| | fastact | ratio |",
        "|---|---:|---:|",
        "| `tanh` float32 | 2 | 0.6 |",
        "| `tanh` float32 | 2 | **1.6** |",
        "| `softmax` | 3 | 0.7 |",
        "",
        source,
    ]
    for line, message in ("Nothing", "no table starts with"), ("Rows | `relu`", "no row starts"):
        with pytest.raises(LookupError, match=message):
            refresh.chosen(OUTPUT, [line])


def test_only_this_machine_and_these_commands(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    text = "".join(
        f"<!-- measured on {machine}: {command}\n{lines}-->\nold\n<!-- end -->\n"
        for machine, command, lines in (
            ("here", "fastact bench", "Rows\n"),
            ("here", "fastact bench", "Functions | `relu` float32\n"),
            ("there", "fastact bench", ""),
            ("here", "fastact check", ""),
        )
    )
    page.write_text(text, encoding="utf-8")
    commands = []

    def run(command, **options):
        commands.append(command)
        return refresh.subprocess.CompletedProcess(command, 0, OUTPUT)

    monkeypatch.setattr(refresh, "PAGES", [page])
    monkeypatch.setattr(refresh.subprocess, "run", run)
    refresh.main("here", "bench")
    assert commands == [["fastact", "bench"]]
    texts = [block["text"] for block in refresh.BLOCK.finditer(page.read_text(encoding="utf-8"))]
    assert texts[2:] == ["old\n", "old\n"]
    assert texts[0] == f"{refresh.chosen(OUTPUT, ['Rows'])}\n"
    assert "`relu`" in texts[1]
    assert "`tanh`" not in texts[1]
