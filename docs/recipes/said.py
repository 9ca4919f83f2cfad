"""Prints what stats records say at the end: said.py FILE..., a line each: name, records given to the output, their bytes."""
import json
import pathlib
import sys

for path in map(pathlib.Path, sys.argv[1:]):
    last = json.loads(path.read_text().splitlines()[-1])
    print(path.stem, last["sinks"][0]["records"], last["record_bytes"], sep="\t")
