//go:build unix && !darwin

package config

// machineID returns the machine id of the operating system, or nothing.
func machineID() string {
	return firstLine("/etc/machine-id", "/var/lib/dbus/machine-id")
}
