package config

import (
	"github.com/glassrunner/glassrunner/internal/job"
)

// SSH is [runners.ssh], for the executors ssh, parallels and virtualbox.
type SSH struct {
	User                         string     `toml:"user" flag:"ssh-user" env:"SSH_USER" default:"root" doc:"User to log in as."`
	Password                     job.Secret `toml:"password" flag:"ssh-password" env:"SSH_PASSWORD" doc:"Password of the user."`
	Host                         string     `toml:"host" flag:"ssh-host" env:"SSH_HOST" default:"localhost" doc:"Host to log in to."`
	Port                         string     `toml:"port" flag:"ssh-port" env:"SSH_PORT" default:"22" doc:"Port of the SSH server."`
	IdentityFile                 string     `toml:"identity_file" flag:"ssh-identity-file" env:"SSH_IDENTITY_FILE" doc:"Private key of the user."`
	DisableStrictHostKeyChecking bool       `toml:"disable_strict_host_key_checking" flag:"ssh-disable-strict-host-key-checking" env:"DISABLE_STRICT_HOST_KEY_CHECKING" default:"false" doc:"Accept any host key."`
	KnownHostsFile               string     `toml:"known_hosts_file" flag:"ssh-known-hosts-file" env:"KNOWN_HOSTS_FILE" default:"~/.ssh/known_hosts" doc:"File with the known host keys."`
}

// Parallels is [runners.parallels], for the executor parallels.
type Parallels struct {
	BaseName         string   `toml:"base_name" flag:"parallels-base-name" env:"PARALLELS_BASE_NAME" doc:"Virtual machine that is cloned for jobs."`
	TemplateName     string   `toml:"template_name" flag:"parallels-template-name" env:"PARALLELS_TEMPLATE_NAME" doc:"Name of the linked template."`
	DisableSnapshots bool     `toml:"disable_snapshots" flag:"parallels-disable-snapshots" env:"PARALLELS_DISABLE_SNAPSHOTS" default:"false" doc:"Remove the virtual machine after each job instead of restoring it."`
	TimeServer       string   `toml:"time_server" flag:"parallels-time-server" env:"PARALLELS_TIME_SERVER" doc:"Server that the clock is set by."`
	AllowedImages    []string `toml:"allowed_images" flag:"parallels-allowed-images" env:"PARALLELS_ALLOWED_IMAGES" doc:"Patterns of virtual machines that jobs may choose."`
}

// VirtualBox is [runners.virtualbox], for the executor virtualbox.
type VirtualBox struct {
	BaseName         string   `toml:"base_name" flag:"virtualbox-base-name" env:"VIRTUALBOX_BASE_NAME" doc:"Virtual machine that is cloned for jobs."`
	BaseSnapshot     string   `toml:"base_snapshot" flag:"virtualbox-base-snapshot" env:"VIRTUALBOX_BASE_SNAPSHOT" doc:"Snapshot that is cloned."`
	BaseFolder       string   `toml:"base_folder" flag:"virtualbox-base-folder" env:"VIRTUALBOX_BASE_FOLDER" doc:"Folder for the clones."`
	DisableSnapshots bool     `toml:"disable_snapshots" flag:"virtualbox-disable-snapshots" env:"VIRTUALBOX_DISABLE_SNAPSHOTS" default:"false" doc:"Remove the virtual machine after each job instead of restoring it."`
	AllowedImages    []string `toml:"allowed_images" flag:"virtualbox-allowed-images" env:"VIRTUALBOX_ALLOWED_IMAGES" doc:"Patterns of virtual machines that jobs may choose."`
	StartType        string   `toml:"start_type" flag:"virtualbox-start-type" env:"VIRTUALBOX_START_TYPE" default:"headless" allowed:"headless|gui|sdl|separate" doc:"How the virtual machine is started."`
}
