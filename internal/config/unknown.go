package config

import (
	"strings"
)

// level is a table that encloses a key.
type level struct {
	place  place
	fields []structField
}

// formerKeys are keys that GitLab Runner had once, or that its documentation
// names by mistake, with what to do instead.
func formerKeys() map[string]string {
	return map[string]string{
		"metrics_server":                                      "was removed in GitLab Runner 12.0; use listen_address",
		"runners.metric_queries":                              "does not exist; the key is queries in [runners.referees.metrics]",
		"runners.referees.metrics.metric_queries":             "does not exist, although GitLab's documentation shows it; the key is queries",
		"runners.token_file":                                  `does not exist; a token can come from the environment: token = "$TOKEN"`,
		"runners.tags":                                        "is no setting of the runner; tags are set in GitLab",
		"runners.tag_list":                                    "is no setting of the runner; tags are set in GitLab",
		"runners.tag-list":                                    "is no setting of the runner; tags are set in GitLab",
		"runners.locked":                                      "is no setting of the runner; it is set in GitLab",
		"runners.run_untagged":                                "is no setting of the runner; it is set in GitLab",
		"runners.maximum_timeout":                             "is no setting of the runner; it is set in GitLab",
		"runners.registration_token":                          "is no setting of the runner; register with it and keep the token that GitLab returns",
		"runners.machine.OffPeakPeriods":                      "was removed from GitLab Runner; use [[runners.machine.autoscaling]]",
		"runners.machine.OffPeakTimezone":                     "was removed from GitLab Runner; use [[runners.machine.autoscaling]]",
		"runners.machine.OffPeakIdleCount":                    "was removed from GitLab Runner; use [[runners.machine.autoscaling]]",
		"runners.machine.OffPeakIdleTime":                     "was removed from GitLab Runner; use [[runners.machine.autoscaling]]",
		"runners.cache.ServerAddress":                         "was moved to [runners.cache.s3]",
		"runners.cache.AccessKey":                             "was moved to [runners.cache.s3]",
		"runners.cache.SecretKey":                             "was moved to [runners.cache.s3]",
		"runners.cache.BucketName":                            "was moved to [runners.cache.s3] and [runners.cache.gcs]",
		"runners.cache.BucketLocation":                        "was moved to [runners.cache.s3]",
		"runners.cache.Insecure":                              "was moved to [runners.cache.s3]",
		"runners.kubernetes.terminationGracePeriodSeconds":    "was replaced by pod_termination_grace_period_seconds and cleanup_grace_period_seconds",
		"runners.kubernetes.termination_grace_period_seconds": "was replaced by pod_termination_grace_period_seconds and cleanup_grace_period_seconds",
	}
}

// unknown reports a key that no field takes.
func (d *decoder) unknown(e entry, p place, above []level) {
	at := p.child(e.name)
	d.report(Warning, e.start, at.key, unknownText(e.name, at.key, above))
}

func unknownText(name, key string, above []level) string {
	for former, text := range formerKeys() {
		if strings.EqualFold(former, key) {
			return text
		}
	}
	own := above[len(above)-1]
	if close := closest(name, fieldNames(own.fields)); close != "" {
		return "unknown key, ignored; did you mean " + close + "?"
	}
	// A key after the header of another table is the commonest mistake.
	for i := len(above) - 2; i >= 0; i-- {
		if findField(above[i].fields, name) >= 0 {
			return "unknown key, ignored; it belongs to " + tableName(above[i].place) + ": move it above the header of [" + own.place.key + "]"
		}
	}
	for _, f := range own.fields {
		if s := f.structType(); s != nil && findField(fieldsOf(s), name) >= 0 {
			return "unknown key, ignored; it belongs to " + tableName(own.place.child(f.name))
		}
	}
	return "unknown key, ignored"
}

// tableName names a table as its header is written.
func tableName(p place) string {
	switch {
	case p.key == "":
		return "the top of the file"
	case p.key == "runners":
		return "[[runners]]"
	default:
		return "[" + p.key + "]"
	}
}

func fieldNames(fields []structField) []string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = f.name
	}
	return out
}

// closest returns the name that is most like the given one, or nothing when
// none is like it.
func closest(name string, names []string) string {
	norm := func(s string) string {
		return strings.ToLower(strings.NewReplacer("_", "", "-", "", ".", "").Replace(s))
	}
	if len(name) > 64 {
		return ""
	}
	best, bestDistance := "", max(1, min(3, len(name)/3))+1
	for _, candidate := range names {
		if n := distance(norm(name), norm(candidate)); n < bestDistance {
			best, bestDistance = candidate, n
		}
	}
	return best
}

// distance returns how many characters have to be inserted, removed, replaced
// or swapped with their neighbour to make b of a.
func distance(a, b string) int {
	before := make([]int, len(b)+1)
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
