package platform_test

import (
	"slices"
	"testing"

	"github.com/pointsman/pointsman/registrator/platform"
)

func TestSplit_PlatformsVariables_TakenOut(t *testing.T) {
	settings := []string{
		"PATH=/bin", "POINTSMAN_NAME=lb0", "POINTSMAN_REGISTRATION_PORT=8080", "POINTSMAN_API_ADDRESS=:9600", "POINTSMAN_PORTT=1",
		"POINTSMAN_SERVICE=10.0.0.1", "OTHER_PORT=tcp://10.0.0.2:80",
	}
	ofPlatform := []string{
		"POINTSMAN_LB_SERVICE_HOST=fd00::1", "POINTSMAN_LB_SERVICE_PORT=80", "POINTSMAN_PORT=tcp://10.0.0.1:9600", "POINTSMAN_PORT_9600_TCP=tcp://10.0.0.1:9600",
		"POINTSMAN_PORT_9600_TCP_ADDR=10.0.0.1", "POINTSMAN_PORT_9600_TCP_PORT=9600", "POINTSMAN_PORT_9600_TCP_PROTO=tcp", "POINTSMAN_SERVICE_HOST=10.0.0.1",
		"POINTSMAN_SERVICE_PORT=9600", "POINTSMAN_SERVICE_PORT_HTTP=9600",
	}
	rest, taken := platform.Split(slices.Concat(ofPlatform, settings), "POINTSMAN_")
	if !slices.Equal(rest, settings) {
		t.Errorf("rest: got %q, want %q", rest, settings)
	}
	var want []string
	for _, e := range ofPlatform {
		want = append(want, e[:slices.Index([]byte(e), '=')])
	}
	if !slices.Equal(taken, want) {
		t.Errorf("taken: got %q, want %q", taken, want)
	}
}

// Without a service's own value a name may be a mistake, which is to be told.
func TestSplit_NamesAlone_AreLeft(t *testing.T) {
	environ := []string{"POINTSMAN_PORT=80", "POINTSMAN_SERVICE_HOST=lb", "POINTSMAN_SERVICE_PORT=80"}
	if rest, taken := platform.Split(environ, "POINTSMAN_"); !slices.Equal(rest, environ) || taken != nil {
		t.Errorf("got %q and %q, want all left", rest, taken)
	}
}

// A service called pointsman-balancer and the setting of that name.
func TestSplit_ServiceNamedAsSetting_SettingIsLeft(t *testing.T) {
	rest, taken := platform.Split([]string{"POINTSMAN_REGISTRATION_PORT=80", "POINTSMAN_REGISTRATION_SERVICE_HOST=10.0.0.1"}, "POINTSMAN_")
	if !slices.Equal(rest, []string{"POINTSMAN_REGISTRATION_PORT=80"}) || !slices.Equal(taken, []string{"POINTSMAN_REGISTRATION_SERVICE_HOST"}) {
		t.Errorf("got %q and %q, want the setting left", rest, taken)
	}
}
