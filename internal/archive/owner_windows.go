package archive

import "io/fs"

// owner is whose a file is: nobody's that a number would name.
func owner(fs.FileInfo) (uid, gid uint32, ok bool) { return 0, 0, false }
