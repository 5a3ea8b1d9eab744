//go:build !linux

package app

// releaseProgram does nothing: other systems do it when memory is short.
func releaseProgram() {}
