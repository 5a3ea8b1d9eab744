package app_test

import (
	"testing"

	"github.com/glassrunner/glassrunner/internal/job"
)

// configToken is a token in the type of the configuration.
func configToken(t *testing.T, token string) job.Secret {
	t.Helper()
	return job.Secret(token)
}
