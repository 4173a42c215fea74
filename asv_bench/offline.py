#!/usr/bin/env python3
"""Make the site of `asv publish` work where its scripts cannot be loaded from outside.

    python offline.py

The page loads jQuery, flot, Bootstrap and others from code.jquery.com, cdnjs.cloudflare.com
and cdn.jsdelivr.net. This takes them from the registry of npm instead, by `npm pack`, puts
them beside the page and lets it load them from there.
"""

import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from asv import util

HERE = Path(__file__).parent

# What the page asks for: npm's package, and the file in it. stupidtable is a bit newer.
FILES = {
    "jquery-3.3.1.min.js": ("jquery@3.3.1", "dist/jquery.min.js"),
    "jquery.flot.min.js": ("flot@0.8.3", "jquery.flot.js"),
    "jquery.flot.time.min.js": ("flot@0.8.3", "jquery.flot.time.js"),
    "jquery.flot.selection.min.js": ("flot@0.8.3", "jquery.flot.selection.js"),
    "jquery.flot.categories.min.js": ("flot@0.8.3", "jquery.flot.categories.js"),
    "jquery.flot.orderBars.js": ("flot-orderbars@1.0.0", "js/jquery.flot.orderBars.js"),
    "stupidtable.min.js": ("stupid-table-plugin@1.1.3", "stupidtable.min.js"),
    "md5.min.js": ("blueimp-md5@2.19.0", "js/md5.min.js"),
    "bootstrap.min.js": ("bootstrap@3.1.1", "dist/js/bootstrap.min.js"),
    "bootstrap.min.css": ("bootstrap@3.1.1", "dist/css/bootstrap.min.css"),
}
OUTSIDE = re.compile(r'(src|href)="https://[^"]*/([^"/]+\.(?:js|css))"[^>]*?(?=>)')


def main():
    config = util.load_json(str(HERE / "asv.conf.json"), js_comments=True)
    site = HERE / config["html_dir"]
    page = site / "index.html"
    if not page.exists():
        raise SystemExit(f"{page} is missing: run `asv publish` before")
    text = page.read_text(encoding="utf-8")
    wanted = {match[2] for match in OUTSIDE.finditer(text)}
    if unknown := wanted - FILES.keys():
        raise SystemExit(f"this version of asv asks for more: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as folder:
        for name in sorted(wanted):
            package, member = FILES[name]
            command = ["npm", "pack", "--silent", package]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            archive = Path(folder, package.replace("@", "-") + ".tgz")
            with tarfile.open(archive) as tar:
                (site / name).write_bytes(tar.extractfile(f"package/{member}").read())
    page.write_text(OUTSIDE.sub(r'\1="\2"', text), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
