package remote

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"slices"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// hostKeys sets how the machine's key is checked.
func (l Login) hostKeys(conf *ssh.ClientConfig) error {
	if l.AnyHostKey {
		conf.HostKeyCallback = ssh.InsecureIgnoreHostKey() //nolint:gosec // the operator said so
		return nil
	}
	check, err := knownhosts.New(l.KnownHosts)
	if err != nil {
		return &HostKeyError{l.Address, fmt.Errorf("known_hosts: %w", err)}
	}
	conf.HostKeyAlgorithms = known(check, l.Address)
	conf.HostKeyCallback = func(host string, addr net.Addr, key ssh.PublicKey) error {
		err := check(host, addr, key)
		if err == nil {
			return nil
		}
		told := ssh.FingerprintSHA256(key)
		if unknown, ok := errors.AsType[*knownhosts.KeyError](err); ok {
			if len(unknown.Want) == 0 {
				err = fmt.Errorf("%s has no key of this host, which shows the %s key %s: compare it with the host's and add it", l.KnownHosts, key.Type(), told)
			} else {
				err = fmt.Errorf("%s has another key than the %s key %s that the host shows: somebody may be listening in", l.KnownHosts, key.Type(), told)
			}
		}
		return &HostKeyError{l.Address, err}
	}
	return nil
}

// known returns the algorithms of the keys that a host is known by, so that
// the host does not show one of another kind; nil when there are none, or when
// an authority vouches for the host.
func known(check ssh.HostKeyCallback, address string) []string {
	probe, err := ssh.NewPublicKey(ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)))
	if err != nil {
		return nil
	}
	unknown, ok := errors.AsType[*knownhosts.KeyError](check(address, &net.TCPAddr{IP: net.IPv4zero}, probe))
	if !ok {
		return nil
	}
	var out []string
	for _, k := range unknown.Want {
		names := []string{k.Key.Type()}
		if names[0] == ssh.KeyAlgoRSA {
			names = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
		}
		for _, n := range names {
			if !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	return out
}
