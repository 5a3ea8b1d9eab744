package logs

import (
	"log/slog"
	"strings"

	"github.com/glassrunner/glassrunner/internal/event"
)

func (o *Observer) listener(e event.Event, f event.ListenerChanged) {
	name, off := "Metrics server", "listen_address not defined, metrics & debug endpoints disabled"
	if f.Debug {
		name, off = "Debug server", "debug_listen_address not defined any more, the debug server has stopped"
	}
	switch {
	case f.Err != nil:
		o.say(e, slog.LevelError, name+": listening failed", slog.String("address", f.Address), errField(f.Err))
	case f.Address == "":
		o.say(e, slog.LevelInfo, off)
	default:
		o.say(e, slog.LevelInfo, name+" listening", slog.String("address", f.Address))
	}
}

func (o *Observer) webConfigLoaded(e event.Event, f event.WebConfigLoaded) {
	if f.Err != nil {
		o.say(e, slog.LevelError, "Web configuration was not loaded", slog.String("web_config", f.Path), errField(f.Err))
		return
	}
	o.say(e, slog.LevelInfo, "Web configuration loaded", slog.String("web_config", f.Path), slog.Bool("tls", f.TLS), slog.Bool("authentication", f.Auth))
}

// exposed says in one line who can see what and what to do about it.
func (o *Observer) exposed(e event.Event, f event.ListenerExposed) {
	msg := "The monitoring server can be reached over the network and asks nobody who they are"
	remedy := "listen on localhost, or set web_config_file in [monitoring] to a file with basic_auth_users or client certificates"
	if f.Passwords {
		msg = "The monitoring server takes passwords over the network without encryption"
		remedy = "add tls_server_config to the web configuration file"
	}
	o.say(e, slog.LevelWarn, msg, slog.String("address", strings.Join(f.Addresses, ", ")), slog.String("shows", strings.Join(f.Shown, ", ")), slog.String("remedy", remedy))
}
