"""A server of fakes in a process of its own: `python -m tests.serve.a_server FOLDER PORT`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from pipelines.executors.placement import LOCAL
from serve import run as server
from serve.served import with_hashes
from tests.fakes import a_graph, a_recipe

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    served = with_hashes([a_recipe(Path(sys.argv[1]))])
    server.start(served, LOCAL, port=int(sys.argv[2]), graph_of=a_graph)
