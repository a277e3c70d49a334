package publish

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"telemetryd/internal/spool"
	"telemetryd/internal/telemetry"
)

// An emergency is the first message of a connection, before the status as well. Its receipt
// is there when the buffer has let it go, and none for what was given up.
func TestEmergencyIsFirst(t *testing.T) {
	t.Parallel()
	ports := []int{freePort(t)}
	address := fmt.Sprintf("mqtt://127.0.0.1:%d", ports[0])
	startMosquitto(t, t.TempDir(), "allow_anonymous true\nlistener %[1]d 127.0.0.1\n", ports)
	var mu sync.Mutex
	var got []string
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(address).SetClientID("first"))
	if token := client.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	t.Cleanup(func() { client.Disconnect(100) })
	if token := client.Subscribe("vehicles/van-1/+", 1, func(_ mqtt.Client, m mqtt.Message) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, m.Topic()+" "+string(m.Payload()))
	}); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	receipts := new(Receipts)
	var sos uint64
	r := startPublisherWith(t, address, Credentials{}, func(c *Config) { // before there is a connection
		c.Receipts = receipts
		c.Limits.MaxMessage = LeastMessage
		before := &rig{spool: c.Store.(*spool.Spool), clock: c.Clock}
		before.event(t, "harsh_braking", telemetry.Warning)
		sos = before.event(t, "emergency", telemetry.Emergency)
		zero, q := c.Clock.Zero()
		large, err := telemetry.Event{Type: "large", At: c.Clock.Uptime(), Data: map[string]string{"x": strings.Repeat("x", LeastMessage)}}.Seal("van-1", "boot", zero, q)
		if err != nil {
			t.Fatal(err)
		}
		before.appendEvent(t, large)
	})
	await(t, "all PUBACKs", func() bool { return r.spool.Stats().Records == 0 })
	await(t, "messages", func() bool { mu.Lock(); defer mu.Unlock(); return len(got) >= 4 })
	mu.Lock()
	defer mu.Unlock()
	if !strings.HasPrefix(got[0], "vehicles/van-1/events ") || !strings.Contains(got[0], `"type":"emergency"`) || !strings.HasPrefix(got[1], "vehicles/van-1/status ") {
		t.Errorf("the first are %q", got[:2])
	}
	if !receipts.Has(sos) || receipts.Has(sos+1) {
		t.Errorf("receipt of the emergency: %v, of what is larger than a message may be: %v", receipts.Has(sos), receipts.Has(sos+1))
	}
}

// The last receipts are known, and no more.
func TestReceiptsAreBounded(t *testing.T) {
	var r Receipts
	for lsn := range uint64(receiptsKept + 10) {
		r.note(lsn + 1)
	}
	if r.Has(10) || !r.Has(11) || !r.Has(receiptsKept+10) || len(r.lsns) != receiptsKept {
		t.Errorf("%d kept; 10: %v, 11: %v", len(r.lsns), r.Has(10), r.Has(11))
	}
	(*Receipts)(nil).note(1)
}
