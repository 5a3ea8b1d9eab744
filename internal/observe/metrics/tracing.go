package metrics

// spansNow tells what became of the spans of traces. Their exporter counts
// them itself, as it works beside the stream of events.
type spansNow struct {
	total  *now
	counts func() (exported, dropped, failed uint64)
}

func newSpansNow(c *catalogue, counts func() (exported, dropped, failed uint64)) spansNow {
	if counts == nil {
		counts = func() (exported, dropped, failed uint64) { return 0, 0, 0 }
	}
	return spansNow{counts: counts, total: c.present("counter", def{
		name: "glassrunner_tracing_spans_total", help: "Spans of job traces, by what became of them.", labels: []string{"result"},
		sets:   sets{"result": {"exported", "dropped", "failed"}},
		values: "result: exported, dropped (the queue was full, or the process ended), failed (the collector could not be reached or refused them)",
		note:   "0 while tracing is off.",
	})}
}

func (s spansNow) collect(send send) {
	exported, dropped, failed := s.counts()
	send(s.total, float64(exported), "exported")
	send(s.total, float64(dropped), "dropped")
	send(s.total, float64(failed), "failed")
}
