"""Checks the licences in `cargo metadata` (standard input) against the list in deny.toml.

An SPDX expression passes when one side of each OR, and every part of an AND, is allowed.
"""

import json
import re
import sys
import tomllib


def tokens(expression):
    return re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))


def allowed(words, licences):
    """Evaluates `a OR b AND (c OR d)`; AND binds tighter."""

    def either():
        result = both()
        while words and words[0] == "OR":
            words.pop(0)
            other = both()
            result = result or other
        return result

    def both():
        result = one()
        while words and words[0] == "AND":
            words.pop(0)
            other = one()
            result = result and other
        return result

    def one():
        word = words.pop(0)
        if word == "(":
            result = either()
            words.pop(0)
            return result
        if words and words[0] == "WITH":
            words.pop(0)
            word += " WITH " + words.pop(0)
        return word in licences

    return either()


def main():
    with open(sys.argv[1], "rb") as file:
        licences = set(tomllib.load(file)["licenses"]["allow"])
    packages = [p for p in json.load(sys.stdin)["packages"] if p["source"]]
    bad = [p for p in packages if not (p["license"] and allowed(tokens(p["license"]), licences))]
    for package in bad:
        print(f"licences: {package['name']} {package['version']}: {package['license']} is not in deny.toml")
    print(f"licences: {len(packages)} dependencies, {len(bad)} with a licence that is not allowed")
    sys.exit(1 if bad else 0)


main()
