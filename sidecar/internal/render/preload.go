package render

import (
	"cmp"
	"fmt"
)

// PreloadPrefix begins the names of the backends that are there for the files
// they load.
const PreloadPrefix = "pointsman.files."

// preload is a section that loads the certificates which a service's
// server_options name. `add server` takes only files that HAProxy has loaded
// (seen on 3.0 to 3.4), and a backend that is empty now may have loaded none.
// Its one server is disabled, and nothing leads to it.
func (s Service) preload() string {
	if s.ServerFiles == "" || s.InFile {
		return ""
	}
	return fmt.Sprintf("\n# Loads the files of server_options for the servers that are added at runtime.\n"+
		"backend %s%s\n    mode %s\n    server files 127.0.0.1:9 ssl verify none %s disabled\n", PreloadPrefix, cmp.Or(s.Backend, s.Defaults), s.Mode, s.ServerFiles)
}
