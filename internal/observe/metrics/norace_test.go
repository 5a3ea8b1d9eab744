//go:build !race

package metrics_test

const watched = false
