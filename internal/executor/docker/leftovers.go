package docker

import (
	"context"
	"errors"
	"time"

	"github.com/moby/moby/client"

	"github.com/glassrunner/glassrunner/internal/executor"
)

// Leftovers returns the containers, volumes and networks on the engine that
// have the label of the driver's owner. What outlives jobs, such as volumes of
// caches, has not.
func (d *Driver) Leftovers(ctx context.Context, _ []executor.Claim) ([]executor.Leftover, error) {
	e, err := connect(ctx, connectionFrom(d.o.Config))
	if err != nil {
		return nil, err
	}
	defer e.close()
	var out []executor.Leftover
	add := func(kind, id string, labels map[string]string, since time.Time) {
		if run := labels[runLabel]; run != "" {
			out = append(out, executor.Leftover{Kind: kind, ID: id, Since: since, Claim: e.claim(run)})
		}
	}
	mine := client.Filters{}.Add("label", ownerLabel+"="+d.o.Owner)
	containers, cerr := e.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: mine})
	for _, c := range containers.Items {
		add("container", c.ID, c.Labels, time.Unix(c.Created, 0))
	}
	volumes, verr := e.VolumeList(ctx, client.VolumeListOptions{Filters: mine})
	for _, v := range volumes.Items {
		made, _ := time.Parse(time.RFC3339, v.CreatedAt) // the zero time is "not known"
		add("volume", v.Name, v.Labels, made)
	}
	networks, nerr := e.NetworkList(ctx, client.NetworkListOptions{Filters: mine})
	for _, n := range networks.Items {
		add("network", n.ID, n.Labels, n.Created)
	}
	return out, e.gone(errors.Join(cerr, verr, nerr))
}
