# Each target is one line of meaning; what it does stands in tools/setup or in cargo.

CARGO ?= cargo
UVS = target/release/uvs
FUZZ = parse rewrite icmp engine
FUZZ_SECONDS = 600
FUZZ_BYTES = 8192

.PHONY: help setup build demo test check loom fuzz bench bench-veth bench-tcp bench-table bench-control bench-sched miri install clean

help: ## these lines
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

setup: ## install the Debian packages that are missing (as root), or say how
	@tools/setup

build: setup ## the release binary, target/release/uvs
	$(CARGO) build --release --locked -p uvs

demo: build ## every mode over every port, with real servers and real traffic
	$(UVS) demo

test: setup ## everything: unit, property, recorded, model (loom) and lab tests
	$(CARGO) test --workspace --locked
	$(MAKE) loom

loom: ## the lock-free table and schedulers under every interleaving of a small size
	RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 CARGO_TARGET_DIR=target/loom \
		$(CARGO) test --locked --release -p uvs-engine --lib table::loom
	RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 CARGO_TARGET_DIR=target/loom \
		$(CARGO) test --locked --release -p uvs-sched --lib loom

miri: ## the table's tests under Miri: undefined behaviour, data races, weak memory (nightly)
	MIRIFLAGS=-Zmiri-disable-isolation CARGO_TARGET_DIR=target/miri \
		$(CARGO) +nightly miri test --locked -p uvs-engine --lib table::


fuzz: setup ## each fuzz target for ten minutes (FUZZ_SECONDS), from the recordings on (nightly, cargo-fuzz)
	@$(CARGO) fuzz --version >/dev/null 2>&1 || { echo "fuzz: install it first: cargo install cargo-fuzz" >&2; exit 1; }
	python3 fuzz/seeds.py $(FUZZ_BYTES)
	for target in $(FUZZ); do $(CARGO) +nightly fuzz run $$target -- \
		-max_len=$(FUZZ_BYTES) -max_total_time=$(FUZZ_SECONDS) || exit 1; done

check: setup ## format, lints, licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --manifest-path fuzz/Cargo.toml --locked -- -D warnings
	tools/licences

bench: setup ## criterion: ns a frame, parts, schedulers
	$(CARGO) bench --locked -p uvs-bench

bench-veth: setup ## one-arm DR on veth against a bare loop, as root
	$(CARGO) run --release --locked -p uvs-bench --bin bench-veth

bench-tcp: build ## iperf3 through NAT over raw packet sockets against the kernel's own (nft), as root
	@tools/setup iperf3 nftables
	$(CARGO) run --release --locked -p uvs-bench --bin bench-tcp -- --program $(UVS)

bench-table: ## the connection table against its bars, at 10 M connections
	$(CARGO) run --release --locked -p uvs-bench --bin bench-table

bench-control: ## 10,000 services applied, listed and changed over the API, against the bars
	$(CARGO) run --release --locked -p uvs-bench --bin bench-control

bench-sched: ## what a pick costs, and the schedulers over the standard workloads: one HTML report
	@mkdir -p target
	$(CARGO) bench --locked -p uvs-bench --bench schedulers > target/bench-schedulers.txt
	$(CARGO) run --release --locked -p uvs-bench --bin bench-sched -- target/bench-schedulers.txt

install: build ## /usr/local/bin/uvs and uvsadm, completions, man page
	install -m 755 $(UVS) $(DESTDIR)/usr/local/bin/uvs
	ln -sf uvs $(DESTDIR)/usr/local/bin/uvsadm
	install -d $(DESTDIR)/usr/local/share/man/man1 $(DESTDIR)/usr/share/bash-completion/completions
	$(UVS) man > $(DESTDIR)/usr/local/share/man/man1/uvs.1
	$(UVS) man uvsadm > $(DESTDIR)/usr/local/share/man/man1/uvsadm.1
	$(UVS) completions bash uvsadm > $(DESTDIR)/usr/share/bash-completion/completions/uvsadm
	$(UVS) completions bash > $(DESTDIR)/usr/share/bash-completion/completions/uvs

clean: ## what was built
	$(CARGO) clean
