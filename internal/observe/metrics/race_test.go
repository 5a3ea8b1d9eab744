//go:build race

package metrics_test

// watched says that the race detector makes everything many times slower.
const watched = true
