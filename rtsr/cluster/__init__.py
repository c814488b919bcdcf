"""One film on the machines of a Ray cluster: `rtsr upscale --cluster`. See docs/CLUSTER.md.

connection.py    reaching the cluster, or a sentence that says why not
remote_input.py  the input read by byte range from the caller, where a machine does not see its path
likeness.py      whether another machine makes the same bytes
worker.py        what runs on each machine
crew.py          a worker for each machine, replaced when it dies or stalls
share.py         encode_on_cluster(): segments out, finished files in
costs.py         what a job costs beside its segments; docs/CLUSTER.md reckons with it
"""
