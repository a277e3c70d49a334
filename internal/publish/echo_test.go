package publish

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A broker whose rules deny what is published acknowledges it; that is found, and the
// rule to add is told. One that allows it, and an account that may only write, are no
// reason for a warning.
func TestDeliveryCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acl := filepath.Join(dir, "acl")
	if err := os.WriteFile(acl, []byte("topic readwrite allowed/#\ntopic write writeonly/#\ntopic write denied/other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	startMosquitto(t, dir, "allow_anonymous true\nacl_file "+acl+"\nlistener %[1]d 127.0.0.1\n", []int{port})
	var running sync.WaitGroup
	for prefix, warned := range map[string]bool{"allowed": false, "denied": true, "writeonly": true} {
		running.Go(func() {
			r := startPublisherWith(t, fmt.Sprintf("mqtt://127.0.0.1:%d", port), Credentials{}, func(c *Config) { c.TopicPrefix, c.ClientID = prefix, prefix })
			r.record(t, 50)
			await(t, "the PUBACK of a batch", func() bool { return r.spool.Stats().Records == 0 })
			time.Sleep(echoLimit + 2*time.Second) // what is proven is that nothing is said
			said := r.log.String()
			if got := strings.Contains(said, "broker_no_echo") && strings.Contains(said, "topic readwrite "+prefix+"/van-1/#"); got != warned {
				t.Errorf("%s: warned %v:\n%s", prefix, got, said)
			}
			r.stop()
		})
	}
	running.Go(func() {
		r := startPublisherWith(t, fmt.Sprintf("mqtt://127.0.0.1:%d", port), Credentials{}, func(c *Config) { c.TopicPrefix, c.ClientID, c.WriteOnly = "writeonly", "quiet", true })
		time.Sleep(echoLimit + 2*time.Second)
		if said := r.log.String(); strings.Contains(said, "broker_no_echo") {
			t.Errorf("asked not to check:\n%s", said)
		}
		r.stop()
	})
	running.Wait()
}

// A broker that closes the connection on the subscription is not asked at the next one.
func TestSubscriptionClosed(t *testing.T) {
	t.Parallel()
	subscribed := make(chan bool, 10)
	address, stop := serveTCP(t, func(c net.Conn) {
		buf := make([]byte, 64<<10)
		if _, err := c.Read(buf); err == nil {
			_, _ = c.Write([]byte{0x20, 2, 0, 0}) // CONNACK
		}
		asked := false
		for _ = c.SetReadDeadline(time.Now().Add(2 * time.Second)); !asked; {
			n, err := c.Read(buf)
			if err != nil {
				break
			}
			asked = strings.Contains(string(buf[:n]), "\x82") && strings.Contains(string(buf[:n]), "vehicles/van-1/status\x01") // SUBSCRIBE
		}
		subscribed <- asked
		c.Close()
	})
	r := startPublisher(t, "mqtt://"+address, Credentials{})
	for i, want := range []bool{true, false, false} {
		if got := <-subscribed; got != want {
			t.Errorf("connection %d: subscribed %v", i, got)
		}
	}
	await(t, "a warning", func() bool { return strings.Contains(r.log.String(), "broker_no_echo") })
	r.stop()
	stop()
}
