package event

import "time"

// RoleCredentials: addresses of caches needed the credentials of a role. Kept
// ones were at hand, or they were got from the token service, or, without OK,
// were not.
type RoleCredentials struct {
	Kept bool
	OK   bool
	// Limited says that there is a limit of calls at the same time; Waited is
	// how long it took to get a place among them. Kept ones that were at hand
	// at once waited for nothing.
	Limited bool
	Waited  time.Duration
	Took    time.Duration // of the call
	// Holder tells the places apart where credentials are kept, and Until is
	// how long they are good there; zero: they are not kept.
	Holder string
	Until  time.Time
}

// RoleCalling: a call to the token service begins, or, with Done, is over.
// RoleCredentials follows.
type RoleCalling struct{ Done bool }

func (RoleCredentials) fact() {}
func (RoleCalling) fact()     {}
