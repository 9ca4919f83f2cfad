# `make run` and `make test` are all one needs; both see first to what must be installed (.ci/need).

CARGO ?= cargo
CAPTURE ?= testdata/captures/http.pcap

.PHONY: help run test golden captures check fuzz bench compare deb

help:
	@echo "make run       replay a capture of testdata and print its flow records (CAPTURE=file for another)"
	@echo "make test      run all tests; those that capture live need root"
	@echo "make check     formatting, lints, documentation"
	@echo "make golden    write testdata/golden anew from what the program says now"
	@echo "make captures  write the captures of testdata anew that a script makes"
	@echo "make fuzz      run each fuzz target for a minute"
	@echo "make deb       build a Debian package, target/debian/flowcap_*.deb"
	@echo "make bench     run the benchmarks"
	@echo "make compare   compare with other flow meters, replay and (as root) live, for half an hour; writes benches/results"

run:
	@bash .ci/need build
	$(CARGO) run --locked --package flowcap -- --read $(CAPTURE)

test:
	@bash .ci/need test
	$(CARGO) test --locked --workspace --no-fail-fast

check:
	@bash .ci/need build
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --package flowcore --package flowcap --no-default-features --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps

golden:
	@bash .ci/need build
	GOLDEN=rewrite $(CARGO) test --locked --package flowcap --test golden
	git diff --stat -- testdata/golden

captures:
	python3 -B testdata/make/synthetic.py

fuzz:
	@bash .ci/need ci
	fuzz/smoke 60

bench:
	@bash .ci/need build
	$(CARGO) bench --locked --package flowcap-benches

compare:
	@bash .ci/need test
	benches/compare --all --readme --save
	benches/memory --save
	[ "$$(id -u)" -ne 0 ] || benches/live --save

deb:
	@bash .ci/need deb
	$(CARGO) build --locked --release --package flowcap
	@packaging/pack release
