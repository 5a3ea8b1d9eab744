// Package arch holds no code of the program: its tests keep the architecture
// true. Each package stands on a floor and imports only from lower ones, each
// dependency is listed with the reason for it, each package has one comment,
// and no file grows into a room for everything. docs/architecture.md says why.
package arch
