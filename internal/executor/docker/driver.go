package docker

import "github.com/moby/moby/client"

var _ client.APIClient
