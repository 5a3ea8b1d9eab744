// Package bench_test measures the whole program: the real binary as a process
// of its own, against a coordinator on the loopback interface that answers at
// once. What a figure means, and which it should be, is in docs/performance.md.
//
// These are benchmarks and never tests: nothing here fails because a machine is
// slow. `make bench PACKAGES=./test/bench` runs them.
//
// GLASSRUNNER_BENCH_BINARY names a binary to measure instead of one that is
// built from this checkout. GLASSRUNNER_BENCH_CPUPROFILE names a file for a CPU
// profile of the last runner that was measured.
package bench_test
