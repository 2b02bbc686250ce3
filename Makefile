# The two commands: `make demo` and `make test`. Both install what they miss under target/tools.

.PHONY: demo demo-shell node node-figures test survive soak images bench bench-quick fleet fmt

demo: ## the main job without a cluster: real agent, real AWS clients, stand-in for CoreWeave
	@tests/demo.sh

demo-shell: ## a shell inside a Pod of the demo
	@tests/demo.sh --shell

node: ## a whole Kubernetes node with the chart on it, and a shell with kubectl and helm; needs root
	@PYTHON_CLIENTS="aws boto3" tests/tools/fetch.sh base python kubernetes etcd helm buildah runtime workload
	@cargo test --quiet --workspace --test node --locked -- --shell

node-figures: ## on such a node: how soon Pods have credentials, and what 250 of them with CSI volumes take
	@tests/tools/fetch.sh
	@IMAGE_PROFILE=release cargo test --workspace --test node --locked -- --figures

test: ## everything that CI checks
	@tests/run.sh

images: ## an image of all binaries, as an archive under target/image; tests/images.sh has the variables
	@tests/tools/fetch.sh base buildah
	@tests/images.sh

survive: ## crashes, upgrades and outages on a whole node under load, each as often as its row says, and 500 Pods that come and go; an hour. ROWS=killed: rows with that name alone
	@tests/tools/fetch.sh
	@NODE_SURVIVE=full IMAGE_PROFILE=release cargo test --workspace --test node --locked -- survival \
		$(if $(ROWS),,pods_that_come_and_go)

soak: ## the same at random for an hour; SOAK=8h is how long, SEED=17 repeats a run
	@tests/tools/fetch.sh
	@SOAK=$${SOAK:-1h} IMAGE_PROFILE=release cargo test --workspace --test node --locked -- survival

bench: ## how fast and how small, against the limit and against what users have today; nothing else may run
	@bench/bench.sh --results bench/results

bench-quick: ## the same within a minute: whether it works
	@bench/bench.sh --quick

fleet: ## a day of a thousand agents under simulated time; ARGUMENTS changes it, `--help` says how
	@bench/fleet.sh $(ARGUMENTS)

fmt: ## formats the code
	@cargo fmt --all
