package runner

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/deploy"
)

// docker is a program of that name, first in PATH, whose containers are files:
// the name is the ID, the content the version and the address.
const docker = `#!/bin/sh
set -eu
cd "$FAKE_DOCKER"
echo "$*" >>log
case "$1 $2" in
"compose ps") ls box ;;
"compose up")
	for word; do case $word in api=*) want=${word#api=} ;; esac; done
	n=$(ls box | wc -l)
	while [ "$n" -lt "$want" ]; do
		next=$(cat next); echo $((next + 1)) >next
		echo "$API_VERSION 10.0.0.$next" >"box/c$next"
		n=$((n + 1))
		if [ "${FAKE_FAIL:-}" = "$next" ]; then echo "no room" >&2; exit 18; fi
	done ;;
"inspect --type")
	shift 3
	sep='['
	for id; do
		read -r _ address <"box/$id"
		printf '%s{"Id":"%s","Name":"/api-%s","Config":{"Hostname":"h%s"},"NetworkSettings":{"Networks":{"a":{"IPAddress":"%s"}}}}' "$sep" "$id" "$id" "$id" "$address"
		sep=,
	done
	echo ']' ;;
"stop "*) shift; for id; do [ -e "box/$id" ] || exit 1; done ;;
"rm "*) shift; for id; do rm "box/$id"; done ;;
*) echo "what is $*?" >&2; exit 64 ;;
esac
`

// newCompose is Compose over the fake, with a number of containers of 1.0.
func newCompose(t *testing.T, count int) (c *Compose, dir string) {
	t.Helper()
	dir, bin := t.TempDir(), t.TempDir()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(filepath.Join(bin, "docker"), []byte(docker), 0o755)) //nolint:gosec // it is to be run
	must(os.Mkdir(filepath.Join(dir, "box"), 0o755))
	for i := range count {
		must(os.WriteFile(filepath.Join(dir, "box", fmt.Sprintf("c%d", i)), fmt.Appendf(nil, "1.0 10.0.0.%d\n", i), 0o644))
	}
	must(os.WriteFile(filepath.Join(dir, "next"), fmt.Appendf(nil, "%d\n", count), 0o644))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("FAKE_DOCKER", dir)
	var out printed
	c = &Compose{Runner: runner(&out), Service: "api", Variable: "API_VERSION"}
	return c, dir
}

// boxes returns the containers as ID:version.
func boxes(t *testing.T, dir string) (list []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "box", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		version, _, _ := strings.Cut(string(text), " ")
		list = append(list, filepath.Base(f)+":"+version)
	}
	return list
}

func mustHave(t *testing.T, dir string, want ...string) {
	t.Helper()
	if got := boxes(t, dir); !slices.Equal(got, want) {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		t.Errorf("containers: got %v, want %v\n%s", got, want, log)
	}
}

func at(n int, version string) deploy.Instance {
	return deploy.Instance{ID: fmt.Sprintf("api%d", n), Address: fmt.Sprintf("10.0.0.%d:4000", n), Version: version}
}

func TestComposeStartsBesideTheOldAndStopsThoseThatItIsGiven(t *testing.T) {
	c, dir := newCompose(t, 3)
	if n, err := c.Size(t.Context()); n != 3 || err != nil {
		t.Errorf("Size: got %d, %v, want 3", n, err)
	}
	if err := c.Start(t.Context(), start()); err != nil {
		t.Fatal(err)
	}
	mustHave(t, dir, "c0:1.0", "c1:1.0", "c2:1.0", "c3:1.1", "c4:1.1")
	if err := c.Stop(t.Context(), deploy.Stop{Instances: []deploy.Instance{at(1, "1.0")}}); err != nil {
		t.Fatal(err)
	}
	mustHave(t, dir, "c0:1.0", "c2:1.0", "c3:1.1", "c4:1.1")
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if want := "compose up -d --no-deps --no-recreate --scale api=5 api\n"; err != nil || !strings.Contains(string(log), want) {
		t.Errorf("docker was called with\n%swant %q", log, want)
	}
}

// One that has ended has no instance. `up` starts it again, and it is not to
// stay when the last old ones go.
func TestComposeRemovesTheLastWithoutAnInstance(t *testing.T) {
	c, dir := newCompose(t, 3)
	if err := c.Start(t.Context(), start()); err != nil {
		t.Fatal(err)
	}
	err := c.Stop(t.Context(), deploy.Stop{Instances: []deploy.Instance{at(0, "1.0"), at(1, "1.0")}, Last: true, Keep: []deploy.Instance{at(3, "1.1"), at(4, "1.1")}})
	if err != nil {
		t.Fatal(err)
	}
	mustHave(t, dir, "c3:1.1", "c4:1.1")
}

// As after an interruption: what a run before has started is there already.
func TestComposeKeepsWhatAnEarlierRunHasStarted(t *testing.T) {
	c, dir := newCompose(t, 4)
	err := c.Stop(t.Context(), deploy.Stop{Instances: []deploy.Instance{at(0, "1.0"), at(1, "1.0")}, Last: true, Keep: []deploy.Instance{at(2, "1.1"), at(3, "1.1")}})
	if err != nil {
		t.Fatal(err)
	}
	mustHave(t, dir, "c2:1.0", "c3:1.0")
}

// Whatever was made is removed again, registered or not.
func TestComposeTakesBackAllThatItMade(t *testing.T) {
	for _, fail := range []string{"", "2"} {
		c, dir := newCompose(t, 2)
		c.Environ = append(c.Environ, "FAKE_FAIL="+fail)
		if err := c.Start(t.Context(), start()); (err != nil) != (fail != "") {
			t.Errorf("Start: got %v", err)
		} else if err != nil && !strings.Contains(err.Error(), `docker compose up: exit status 18`) {
			t.Errorf("Start: got %v, want exit status 18 and why", err)
		}
		if err := c.Stop(t.Context(), deploy.Stop{Undo: true, Missing: []string{"a"}}); err != nil {
			t.Fatal(err)
		}
		mustHave(t, dir, "c0:1.0", "c1:1.0")
	}
}

// The run that has started the new ones was killed. The next one starts none, and the
// rollout is aborted.
func TestCompose_UndoOfWhatAnEarlierRunStarted_StopsItsContainersOnly(t *testing.T) {
	c, dir := newCompose(t, 4)
	keep := []deploy.Instance{at(0, "1.0"), at(1, "1.0")}
	err := c.Stop(t.Context(), deploy.Stop{Undo: true, Instances: []deploy.Instance{at(1, "1.1"), at(3, "1.1"), at(9, "1.1")}, Keep: keep})
	for _, want := range []string{`stop "api1": its address 10.0.0.1:4000 is that of a container that stays`, `stop "api9": no container of the Compose service api has the address 10.0.0.9:4000`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	mustHave(t, dir, "c0:1.0", "c1:1.0", "c2:1.0")

	// This run makes one more.
	one := start()
	one.IDs = one.IDs[:1]
	if err := c.Start(t.Context(), one); err != nil { // makes c4
		t.Fatal(err)
	}
	if err := c.Stop(t.Context(), deploy.Stop{Undo: true, Instances: []deploy.Instance{at(2, "1.1"), at(4, "1.1")}, Keep: keep}); err != nil {
		t.Fatal(err)
	}
	mustHave(t, dir, "c0:1.0", "c1:1.0")
	if err := c.Stop(t.Context(), deploy.Stop{Undo: true}); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

// A container that has ended has no address any more; it is removed with the others.
func TestCompose_UndoWhereANewContainerHasEnded_IsRemoved(t *testing.T) {
	c, dir := newCompose(t, 2)
	if err := c.Start(t.Context(), start()); err != nil { // makes c2 and c3
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "box", "c3"), []byte("1.1 \n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context(), deploy.Stop{Undo: true, Instances: []deploy.Instance{at(2, "1.1"), at(3, "1.1")}}); err != nil {
		t.Error(err)
	}
	mustHave(t, dir, "c0:1.0", "c1:1.0")
}

func TestCompose_Started_OnlyContainersThatWereMade(t *testing.T) {
	c, _ := newCompose(t, 2)
	if err := c.Start(t.Context(), start()); err != nil { // makes c2 and c3
		t.Fatal(err)
	}
	stranger := at(9, "1.1")
	got, err := c.Started(t.Context(), []deploy.Instance{at(1, "1.1"), at(2, "1.1"), at(3, "1.1"), stranger})
	want := map[deploy.Key]string{{ID: "api2"}: "c2", {ID: "api3"}: "c3"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

// Any program that may register can name the address of a new container for an old
// instance.
func TestCompose_OldInstanceAtAddressOfContainerThatStays_NothingIsStopped(t *testing.T) {
	c, dir := newCompose(t, 2)
	if err := c.Start(t.Context(), start()); err != nil {
		t.Fatal(err)
	}
	for _, stop := range []deploy.Stop{
		{Instances: []deploy.Instance{at(0, "1.0"), at(2, "1.0")}},
		{Instances: []deploy.Instance{at(0, "1.0"), at(1, "1.0")}, Keep: []deploy.Instance{at(1, "1.1")}},
	} {
		if err := c.Stop(t.Context(), stop); err == nil || !strings.Contains(err.Error(), "is that of a new container") {
			t.Errorf("got %v, want that it is refused", err)
		}
	}
	mustHave(t, dir, "c0:1.0", "c1:1.0", "c2:1.1", "c3:1.1")
}

func TestComposeStopsNothingThatItDoesNotKnow(t *testing.T) {
	c, dir := newCompose(t, 2)
	err := c.Stop(t.Context(), deploy.Stop{Instances: []deploy.Instance{at(0, "1.0"), at(9, "1.0")}})
	if err == nil || !strings.Contains(err.Error(), `stop "api9": no container of the Compose service api has the address 10.0.0.9:4000`) {
		t.Errorf("got %v", err)
	}
	mustHave(t, dir, "c0:1.0", "c1:1.0")
	// On the host's network a container has no address of its own.
	if err := c.Stop(t.Context(), deploy.Stop{Instances: []deploy.Instance{{ID: "api-c0"}, {ID: "hc1"}}}); err != nil {
		t.Fatal(err)
	}
	mustHave(t, dir)
}
