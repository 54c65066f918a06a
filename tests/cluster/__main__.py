"""The cluster's command line: `python -m tests.cluster up`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from . import helm, kueue, lifecycle, loaded, processes
from .errors import ClusterError
from .kubectl import kubectl
from .settings import KUBERNETES_VERSION, Folders
from .shell import say

_EPILOG = """\
environment:
  SHARDWISE_CLUSTER_DIR  where the cluster keeps everything it writes (default: /var/tmp/shardwise-cluster)
  SHARDWISE_CACHE        where built programs stay (default: .cache in the repository)

It runs as root on Linux with cgroups; Debian packages that are missing are installed. Use it like any other cluster:
  export KUBECONFIG=$(python -m tests.cluster kubeconfig)
"""


def main() -> int:
    """Do what the arguments say; 0 when all is well."""
    options = _parser().parse_args()
    try:
        folders = Folders()
        match options.command:
            case "up":
                with lifecycle.alone():
                    lifecycle.up(folders)
            case "down":
                with lifecycle.alone():
                    lifecycle.down(folders)
            case "status":
                return _status(folders)
            case "kueue":
                if options.deploy:
                    kueue.deploy(folders)
                else:
                    kueue.build()
            case "load":
                lifecycle.load(folders, options.archives)
            case "images":
                say(json.dumps(loaded.by_node(folders)))
            case "helm":
                say(str(helm.find()))
            case _:
                return _kubeconfig(folders)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: `down` removes what is there, `up` starts anew", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster",
        description=f"A two-node Kubernetes {KUBERNETES_VERSION} on this machine, without Docker.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("up", help="bring it up; the first time builds programs, which takes minutes")
    commands.add_parser("down", help="remove it: processes, namespaces, links, cgroups, files; built programs stay")
    commands.add_parser("status", help="list components and nodes; not 0 when something is wrong, with its log's end")
    commands.add_parser("kubeconfig", help="print the path of the administrator's kubeconfig")
    load = commands.add_parser("load", help="import image archives (docker save, oci-archive) into both nodes")
    load.add_argument("archives", nargs="+", type=Path, metavar="archive")
    queue = commands.add_parser("kueue", help="build Kueue; tens of minutes, once")
    queue.add_argument("--deploy", action="store_true", help="and bring it into the running cluster")
    commands.add_parser("helm", help="print the path of a Helm; where the machine has none, it is built: minutes, once")
    commands.add_parser("images", help="print the names of each node's images as JSON")
    return parser


def _status(folders: Folders) -> int:
    for process in processes.recorded(folders):
        say(f"{process.name:<24} {process.pid:>8}  {'running' if process.alive else 'ENDED'}")
    wrong = lifecycle.problems(folders)
    for problem in wrong:
        say(problem)
    if not wrong:
        say(kubectl(folders, "get", "nodes", "--output=wide").rstrip())
    return 1 if wrong else 0


def _kubeconfig(folders: Folders) -> int:
    if not folders.admin_kubeconfig.exists():
        raise ClusterError("the cluster is down: `make cluster-up` starts it")
    say(str(folders.admin_kubeconfig))
    return 0


if __name__ == "__main__":
    sys.exit(main())
