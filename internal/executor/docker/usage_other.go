//go:build !linux

package docker

import "errors"

// watch is never reached: without Linux there are no control groups here.
func watch(int) (<-chan struct{}, func(), error) {
	return nil, nil, errors.ErrUnsupported
}
