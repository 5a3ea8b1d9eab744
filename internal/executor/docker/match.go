package docker

import (
	"slices"

	"github.com/bmatcuk/doublestar/v4"
)

// match compares an image with a pattern of the configuration. A pattern that
// is none matches nothing.
func match(pattern, name string) bool {
	ok, err := doublestar.Match(pattern, name)
	return err == nil && ok
}

// allowed refuses an image that the configuration does not allow. What the
// configuration itself names always is. what is "images" or "services".
func (p *place) allowed(what, name string, patterns, own []string) error {
	if len(patterns) == 0 || slices.Contains(own, name) {
		return nil
	}
	for _, pattern := range patterns {
		if match(pattern, name) {
			return nil
		}
	}
	p.say("")
	p.say("%s", "\x1b[31;1mThe "+quoted(name)+" image is not present on list of allowed "+what+":"+reset)
	for _, pattern := range patterns {
		p.say("- %s", pattern)
	}
	p.say("")
	p.say("The list is `allowed_%s` of [runners.docker] in the runner's configuration.", what)
	return misconfigured("disallowed image")
}

func quoted(s string) string { return `"` + s + `"` }
