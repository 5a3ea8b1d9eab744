package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	apinet "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"

	"github.com/glassrunner/glassrunner/internal/executor"
)

// network is what joins the containers of a job.
type network struct {
	p    *place
	own  string // name of the job's own network, "" when it has none
	mode string // network_mode, or own; "": the engine's default bridge
}

// macOnEndpoint is the first API version with MAC addresses of endpoints.
const macOnEndpoint = "1.44"

// create makes the job's own network if it wants one.
func (n *network) create(ctx context.Context) error {
	p := n.p
	n.mode = p.c.NetworkMode
	if n.mode != "" || !p.flag("FF_NETWORK_PER_BUILD") {
		return nil
	}
	name := hostname(fmt.Sprintf("runner-%s-%d-%d-%s", p.r.Runner.Short, p.r.Spec.Info.ProjectID, p.r.ConcurrentProject, p.r.Spec.ID))
	o := client.NetworkCreateOptions{Driver: "bridge", Labels: p.labels("network", false, nil), Options: map[string]string{}}
	if p.c.EnableIPv6 {
		o.EnableIPv6 = &p.c.EnableIPv6
	}
	if p.c.NetworkMTU > 0 {
		o.Options["com.docker.network.driver.mtu"] = strconv.Itoa(p.c.NetworkMTU)
	}
	_, err := p.engine.NetworkCreate(ctx, name, o)
	if err != nil {
		return p.engine.gone(badRequest(fmt.Errorf("network %s: %w", name, err)))
	}
	n.own, n.mode = name, name
	return nil
}

// environment tells containers of the job's own network.
func (n *network) environment() []string {
	if n.own == "" {
		return nil
	}
	return []string{"CI_BUILD_NETWORK_NAME=" + n.own}
}

// hosts says whether containers find one another only through lines in
// /etc/hosts: the default bridge has no names.
func (n *network) hosts() bool {
	return n.mode == "" || container.NetworkMode(n.mode).IsDefault() || n.mode == "bridge"
}

// endpoints joins a container to the network, under these names.
func (n *network) endpoints(aliases []string, mac bool) (*apinet.NetworkingConfig, error) {
	mode := container.NetworkMode(n.mode)
	e := &apinet.EndpointSettings{}
	switch {
	case n.hosts():
	case mode.IsUserDefined():
		e.Aliases = aliases
	default: // host, none, another container's
		return nil, nil
	}
	if mac && n.p.c.MACAddress != "" {
		if !versions.LessThan(n.p.engine.ClientVersion(), macOnEndpoint) {
			hw, err := net.ParseMAC(n.p.c.MACAddress)
			if err != nil {
				return nil, executor.Misconfigured("mac_address: %w", err)
			}
			e.MacAddress = apinet.HardwareAddr(hw)
		} else {
			n.p.warn("mac_address is ignored: the engine's API is %s, it needs %s.", n.p.engine.ClientVersion(), macOnEndpoint)
		}
	}
	name := n.mode
	if n.hosts() {
		name = "bridge"
	}
	return &apinet.NetworkingConfig{EndpointsConfig: map[string]*apinet.EndpointSettings{name: e}}, nil
}

// address is where containers of the job reach another container.
func (n *network) address(c container.InspectResponse) string {
	switch {
	case n.hosts():
		if c.NetworkSettings != nil {
			for _, e := range c.NetworkSettings.Networks {
				if e.IPAddress.IsValid() {
					return e.IPAddress.String()
				}
			}
		}
		return ""
	case container.NetworkMode(n.mode).IsUserDefined():
		return c.ID[:12]
	}
	return "localhost" // all share one network stack
}

// seenNetwork is what an engine says of a network, as far as it matters here.
// The client's type for it refuses the answers of Docker 20.10 for IPv6, whose
// gateways have the length of a prefix.
type seenNetwork struct {
	ID         string         `json:"Id"`
	Containers map[string]any // by number; only when one network is asked for
}

// networks lists those of a run.
func (e *engine) networks(ctx context.Context, run string) ([]seenNetwork, error) {
	filters, err := json.Marshal(map[string][]string{"label": {runLabel + "=" + run}})
	if err != nil {
		return nil, err
	}
	var list []seenNetwork
	_, err = e.get(ctx, "/networks?filters="+url.QueryEscape(string(filters)), &list)
	return list, err
}

// get asks the engine without the client's types. It returns the status.
func (e *engine) get(ctx context.Context, path string, into any) (status int, err error) {
	c := &http.Client{
		Transport: &http.Transport{
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return e.Dialer()(ctx) },
			DisableKeepAlives: true,
		},
		CheckRedirect: client.CheckRedirect,
	}
	// The dialer knows where the engine is.
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/v"+e.ClientVersion()+path, http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return resp.StatusCode, fmt.Errorf("GET %s: %w", path, err)
	}
	return resp.StatusCode, nil
}

// removeNetwork removes a network after the containers that are still on it.
func (e *engine) removeNetwork(ctx context.Context, id string) error {
	var n seenNetwork
	status, err := e.get(ctx, "/networks/"+url.PathEscape(id), &n)
	if status == http.StatusNotFound {
		return nil
	}
	var errs []error
	if err == nil {
		for c := range n.Containers {
			errs = append(errs, e.removeContainer(ctx, c, true))
		}
	}
	if _, err := e.NetworkRemove(ctx, id, client.NetworkRemoveOptions{}); err != nil && !cerrdefs.IsNotFound(err) {
		errs = append(errs, fmt.Errorf("network %.12s: %w", id, err))
	}
	return errors.Join(errs...)
}
