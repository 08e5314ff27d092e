package certificate

import (
	"os"
	"slices"
	"time"
)

// cache keeps what has been read of files that have not changed since: to parse hundreds
// of keys each second costs more than all else that the sidecar does.
type cache struct {
	load     loader
	now      func() time.Time
	old, new map[string]cached // by name and first file; old is of the look before
}

type cached struct {
	files       []os.FileInfo
	certificate Certificate
}

// freshness is the age up to which a file may change without another time of change.
const freshness = 2 * time.Second

// turn begins a look. What the last two have not asked for is forgotten.
func (c *cache) turn() { c.old, c.new = c.new, map[string]cached{} }

// get is a loader. It keeps no error.
func (c *cache) get(name string, files []string) (Certificate, error) {
	key := name + "\n" + files[0]
	has, err := infos(files)
	if was, known := c.old[key]; err == nil && known && slices.EqualFunc(was.files, has, isUnchanged) {
		c.new[key] = was
		return was.certificate, nil
	}
	certificate, failed := c.load(name, files)
	isOld := func(f os.FileInfo) bool { return c.now().Sub(f.ModTime()) > freshness }
	if failed == nil && err == nil && !slices.ContainsFunc(has, func(f os.FileInfo) bool { return !isOld(f) }) {
		c.new[key] = cached{files: has, certificate: certificate}
	}
	return certificate, failed
}

func infos(files []string) (all []os.FileInfo, err error) {
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			return nil, err
		}
		all = append(all, info)
	}
	return all, nil
}

func isUnchanged(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && a.Mode() == b.Mode()
}
