package docker

import (
	"github.com/glassrunner/glassrunner/internal/executor"
	"github.com/glassrunner/glassrunner/internal/image"
)

// allowed refuses an image that the configuration does not allow. What the
// configuration itself names always is. what is "images" or "services".
func (p *place) allowed(what, name string, patterns, own []string) error {
	l := image.List{Key: "`allowed_" + what + "` of [runners.docker]", What: what, Patterns: patterns, Own: own}
	if err := l.Check(name, func(line string) { p.say("%s", line) }); err != nil {
		return executor.Misconfigured("%w", err)
	}
	return nil
}
