package app

import (
	"io"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/glassrunner/glassrunner/internal/admin"
	"github.com/glassrunner/glassrunner/internal/observe/board"
	"github.com/glassrunner/glassrunner/internal/observe/metrics"
)

// MetricReference writes what is known of every metric that a process of this
// build can show, as Markdown.
func MetricReference(w io.Writer) error {
	return metrics.Reference(w, func(r prometheus.Registerer) {
		admin.New(admin.Options{Registry: r, Board: board.New(board.Options{})})
	})
}
