// Package archive selects files of a project, writes them as an archive, and
// extracts archives. It promises:
//
//   - An archive is written to a stream with constant memory, whatever the
//     sizes of the files, by as many processors as there are; equal files give
//     equal bytes, so a repeated upload is the same upload.
//   - Whatever an archive holds, extraction changes nothing outside of its
//     directory and nothing through a link that came with it: every access
//     goes through an os.Root, names are judged before anything is written,
//     links are made last and never followed.
//   - Extraction ends with an error once it exceeds what it was given: bytes in
//     all, bytes per archived byte, entries.
//
// The formats are those of GitLab Runner: zip, zip with Zstandard (method 93),
// tar in Zstandard, gzip (a member per file) and raw.
package archive
