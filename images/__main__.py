"""The tool's command line: `python -m images build`."""

from __future__ import annotations

import argparse
import json
import sys

from .build import alone, build, refs
from .errors import ImageError
from .load import load
from .sources import NAMES, image

_EPILOG = """\
environment:
  BASE_IMAGE        the same as --base-image
  SHARDWISE_CACHE   where images and layers are kept (default: .cache in the repository)

With a Docker engine the base is a public Python image; named by digest (python:3.13-slim@sha256:...) it is the same one
on each day. Without an engine, as root on Debian, buildah builds on a base image made of Debian's packages; what is
missing for that is installed.
"""


def main() -> int:
    """Do what the arguments say; 0 when all is well."""
    options = _parser().parse_args()
    names: list[str] = options.names or list(NAMES)
    try:
        if options.command == "refs":
            print(json.dumps(refs(names, base=options.base_image)))
            return 0
        with alone():
            built = build(map(image, names), base=options.base_image)
            if options.command == "load":
                load(built.values())
    except ImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    found = {name: str(one.sbom) if options.command == "sbom" else one.ref for name, one in built.items()}
    print(json.dumps(found) if options.json else "\n".join(found.values()))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m images",
        description="Builds the project's container images and brings them into a cluster.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("names", nargs="*", metavar="NAME", help=f"all of {', '.join(NAMES)} unless given")
    common.add_argument("--base-image", help="the image to build on; it must have Python 3.11 or newer, with venv")
    common.add_argument("--json", action="store_true", help="print an object of name: what is printed else")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("build", parents=[common], help="build what has changed; print the images' full names")
    commands.add_parser("load", parents=[common], help="build, and load what the cluster does not have yet")
    commands.add_parser("sbom", parents=[common], help="build what has changed; print the paths of lists of contents")
    commands.add_parser("refs", parents=[common], help="print full names as JSON; build nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
