# Renders the templates of a discovery message as Home Assistant does: Jinja in its sandbox,
# with value and value_json. In: {"templates": {KEY: [TEMPLATE, PAYLOAD]}}; out: {KEY: TEXT}.
import json
import sys

from jinja2.sandbox import ImmutableSandboxedEnvironment

environment = ImmutableSandboxedEnvironment()
out = {}
for key, (template, payload) in json.load(sys.stdin)["templates"].items():
    out[key] = environment.from_string(template).render(value=payload, value_json=json.loads(payload)).strip()
json.dump(out, sys.stdout)
