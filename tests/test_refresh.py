"""The measured tables, in the pages and in `docs/measured`, and `docs/refresh.py`."""

import pytest
from programs import script

refresh = script("docs/refresh.py")

OUTPUT = """\
**Functions: time**

| | fastact | ratio |
|---|---:|---:|
| `relu` float32 | 1 | 0.5 |
| `relu` float32, 16 elements | 7 | 0.7 |
| `tanh` float32 | 2 | 0.6 |
| `tanh` float32 | 2 | **1.6** |

**Rows**

| | fastact | ratio |
|---|---:|---:|
| `tanh` float32 | 2 | 0.9 |
| `softmax` | 3 | 0.7 |

Measured by `fastact bench` on some day.
"""
BLOCK = """\
| | old |
|---|---:|
| `tanh` float32 | old |
| `softmax` | old |
"""


def blocks():
    for path in refresh.PAGES:
        for block in refresh.BLOCK.finditer(path.read_text(encoding="utf-8")):
            yield pytest.param(block, id=f"{path.name}: {block[2]}")


@pytest.mark.parametrize("block", list(blocks()))
def test_pages(block):
    """What stands in a page is in the file that the comment names."""
    measured = (refresh.ROOT / block[2]).read_text(encoding="utf-8")
    assert refresh.rows(block[3], measured) == block[3]


@pytest.mark.parametrize("path", sorted(refresh.MEASURED.glob("*/*.md")), ids=str)
def test_files(path):
    """A file starts with the command that has printed the rest."""
    heading, _, output = path.read_text(encoding="utf-8").partition("\n")
    command = heading.removeprefix(f"# {path.parent.name}: ")
    assert f"Measured by `{command}` on 20" in " ".join(output.split())


def test_every_comment_is_read():
    """A comment with a mistake in its form would be passed over."""
    assert "<!-- rows of " in refresh.PAGES[0].read_text(encoding="utf-8")
    for path in refresh.PAGES:
        text = path.read_text(encoding="utf-8")
        found = len(refresh.BLOCK.findall(text))
        assert text.count("<!-- rows of ") == text.count("<!-- end -->") == found


def test_rows():
    _, heading, rule, _, _, *tanh = OUTPUT.splitlines()[1:8]
    *_, softmax, _, source = OUTPUT.splitlines()
    wanted = [heading, rule, *tanh, softmax, "", source]
    assert refresh.rows(BLOCK, OUTPUT).splitlines() == wanted
    assert refresh.rows(refresh.rows(BLOCK, OUTPUT), OUTPUT).splitlines() == wanted
    with pytest.raises(LookupError, match="no row starts with"):
        refresh.rows(BLOCK.replace("softmax", "softmin"), OUTPUT)


def test_only_this_machine_and_these_commands(tmp_path, monkeypatch):
    for name, command in ("here/a", "bench"), ("here/b", "check"), ("there/a", "bench"):
        path = tmp_path / "measured" / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {path.parent.name}: fastact {command}\n\nold\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(f"A.\n<!-- rows of measured/here/a.md -->\n{BLOCK}<!-- end -->\nZ.\n")
    commands = []

    def run(command, **options):
        commands.append(command)
        return refresh.subprocess.CompletedProcess(command, 0, OUTPUT)

    for name, value in (
        ("ROOT", tmp_path),
        ("MEASURED", tmp_path / "measured"),
        ("PAGES", [page]),
    ):
        monkeypatch.setattr(refresh, name, value)
    monkeypatch.setattr(refresh.subprocess, "run", run)
    refresh.main("here", "bench")
    assert commands == [["fastact", "bench"]]
    new = (tmp_path / "measured" / "here" / "a.md").read_text(encoding="utf-8")
    assert new == f"# here: fastact bench\n\n{OUTPUT}"
    for name in "here/b", "there/a":
        assert (tmp_path / "measured" / f"{name}.md").read_text().endswith("old\n")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("A.\n")
    assert text.endswith("<!-- end -->\nZ.\n")
    assert refresh.rows(BLOCK, OUTPUT) in text
