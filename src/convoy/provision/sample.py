"""What provisioning writes for people to edit: a sample project.yml, node.yaml, policy.yaml."""

from __future__ import annotations

from typing import Final

PROJECT: Final = """\
# A federation: one server, the sites that train, the people who run it.
# `convoy provision` turns this file into one startup kit for each participant, in
# workspace/example_project/prod_00/. You may change it and provision again: existing keys stay valid.
api_version: 3
name: example_project
description: Convoy's sample project

participants:
  # The server. Sites connect to fed_learn_port, people (console, CLI, web) to admin_port.
  - name: server
    type: server
    org: nvidia
    fed_learn_port: 8002
    admin_port: 8003
    # The address at which participants find it, if it is not the name above:
    # default_host: fl.example.org
    # Other names and addresses of the server (they are written into its certificate):
    # host_names: [fl.internal.example.org, 10.0.0.5]

  # The sites: each trains on its own data, which never leaves it.
  - name: site-1
    type: client
    org: nvidia
  - name: site-2
    type: client
    org: nvidia

  # The people. Roles: project_admin (everything), org_admin (sites and jobs of the own organisation),
  # lead (submits jobs, sees results), member (sees jobs and sites).
  - name: admin@nvidia.com
    type: admin
    org: nvidia
    role: project_admin
"""

_HEAD: Final = """\
# Settings of this {kind}. Each line shows the default; remove the `# ` in front of one to change it.
"""

_BOTH: Final = """\
# workspace: work            # folder for state, logs and jobs; from the kit's own folder unless absolute
# health_host: 127.0.0.1     # address of /livez, /readyz, /metrics: only this machine; 0.0.0.0 in a container
# health_port: 8004          # TCP port of the health pages; 0 means any free port
# log_format: text           # text for people, or json for programs: one object for each line
# traces:                    # {endpoint: http://…:4318} sends a span for each phase of a round there; empty: nowhere
# disk_reserve: 256Mi        # bytes of disk kept free: with less, no new work is accepted, so that running work can end
# launcher: processes        # where jobs run: processes of this node; kubernetes: each in a pod of its own
# workers_port: 8005         # TCP port to which those pods connect; each needs a credential
# pods: {}                   # settings of those pods: image, cpu_limit, memory_limit, gpu, …; docs/kubernetes.md
# isolation: {}              # more that jobs may use, such as read: [PATH], write: [PATH], network: true, cache: FOLDER
# env: {}                    # environment (name: value) of the processes that run jobs, such as OMP_NUM_THREADS
"""

_SERVER: Final = """\
# listen_host: "::"          # addresses to listen on for sites and people: all IPv6 and IPv4; 0.0.0.0: only IPv4
# custom_workflows: [project_admin]  # roles that may submit jobs with their own workflow, which runs here
# track: {}                  # experiment trackers that get every job: mlflow: URI, tensorboard: FOLDER, wandb: PROJECT
# max_jobs: 4                # jobs that run at the same time; others wait, because each needs memory for its model
# database: ""               # SQLAlchemy URL, such as postgresql+psycopg://…; empty: SQLite in the workspace
# site_certificate_life: 24h # lifetime of a certificate of a site or this server; renewed after half of it
# admin_certificate_life: 8h # lifetime of an admin's certificate; after a longer absence an admin needs an invitation
# artifacts: 1Gi             # bytes of artifacts/ that sites may send of one job, in equal parts for its sites
# results: ""                # where results are stored: s3://…, gs://…, az://…; empty: a folder in the workspace
"""

_SITE: Final = """\
# cpu:                       # cores that all jobs together may use; empty: all of this machine
# memory:                    # bytes that all jobs together may use, such as 16Gi; empty: all of this machine
# gpu:                       # GPUs that all jobs together may use; empty: all that the kernel shows
# artifacts: 1Gi             # bytes of all files in artifacts/ of all jobs; the oldest are removed first
# data: {}                   # data that jobs see (name: path), relative to this folder; jobs see no other data
"""

POLICY: Final = """\
# The site's policy: who may run code here, what a job may ask for, what leaves. A job cannot change or bypass it.
# It is read for each job that arrives and for each answer that leaves. The values below are the defaults.

# Who may run code here: people who match everything in one line. `own` is this site's organisation. Jobs of all other
# people are refused until somebody runs on this machine: convoy site approve DIGEST --kit KIT
run:
  - {org: own}
  - {role: project_admin}
#  - {person: ada@clinic.org}
#  - {org: clinic-b, role: lead}

# Workflows that this site takes part in, by patterns; left out: all, also a job's own.
# workflows: [fedavg]

# Images that a job may name for its worker where `launcher: kubernetes` makes a pod for each, by patterns; left out:
# none, so that every job gets the site's own.
# images: ["registry.example.org/convoy-torch@sha256:*"]

# The most that one job may ask for here under `resources`, and that its trainer may keep from task to task (state).
# Left out: no limit.
# limits: {cpu: 4, memory: 8Gi, gpu: 1, state: 1Gi}

# The parts of isolation that jobs must have here: files, processes, network. Left out: whatever this machine can do.
# If it lacks a listed part, no job runs.
# isolation: [files, processes, network]

# What may leave in addition to updates. logs: what a job prints, and its tracebacks. metrics: numbers by name. live:
# metrics while a task runs: keys by patterns, values of one job an hour, significant digits; false: none. values:
# JSON beside the arrays. resources: seconds, processor time, memory and energy of an answer, rounded to two digits.
# weight: exact, rounded to one digit, or fixed to 1. arrays: the most bytes of arrays that are not shaped like the
# model, such as counts. artifacts: the most bytes of a job's artifacts/, such as 50Mi, which then come back with its
# results: the job's code decides what is in them.
leave: {logs: true, metrics: true, values: true, arrays: 16Mi, artifacts: 0}
# leave: {live: {keys: ["loss", "val_*"], per_hour: 100000, digits: 6}}

# What statistics may tell of a table, by patterns of names of data; the numbers are the defaults. minimum_count:
# nothing over fewer rows leaves. extremes: whether minimum and maximum leave. `digits: 3` rounds all numbers. With
# `only: statistics`, no code of a job is given the table.
# tables: {patients: {minimum_count: 10, extremes: false, only: statistics}}

# Every answer of every job passes these filters, from top to bottom. By default there are none. A filter with
# `kinds: [train]` applies only to answers to questions of that kind.
filters: []
# filters:
#   - exclude: ["head.*"]    # tensors that stay here, by patterns of their names; the global model's go instead
#   - clip: {norm: 1.0}      # the largest L2 norm of an update's difference from the global model
#   - noise: {sigma: 0.01}   # standard deviation of Gaussian noise on the difference, a number in the model's own unit
#   - quantize: {bits: 8}    # 8 or 16 bits for each number of the difference: fewer bytes; the last filter
"""


def node(kind: str) -> str:
    """Return node.yaml of a server or a site: every setting with its default, its unit and its reason."""
    return _HEAD.format(kind=kind) + _BOTH + (_SERVER if kind == "server" else _SITE)
