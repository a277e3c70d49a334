package publish

import (
	"context"
	"fmt"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Follower says what to follow from any machine.
type Follower struct {
	Broker      Broker
	ClientID    string
	Credentials Credentials
	Topic       string // a filter
	// Keep makes the broker keep what comes while the connection is lost, until Follow
	// returns.
	Keep bool
	// Message takes what arrives, one after the other. What is retained was published before
	// the subscription.
	Message func(topic string, payload []byte, retained bool)
	// Said is told when the connection is there, and why it is not: nil, or the cause.
	Said func(error)
	// Offer is published while the connection is there, nil for nothing.
	Offer *Offer
}

// Offer is a message that is published again and again, for somebody who may not be
// connected: QoS 1, not retained.
type Offer struct {
	Topic   string
	Payload []byte
	Every   time.Duration
}

// Follow hands over what arrives until ctx ends. It connects for ever.
func Follow(ctx context.Context, f Follower) error {
	o, err := f.options()
	if err != nil {
		return err
	}
	ready := make(chan struct{}, 1) // to publish: an answer will be heard
	o.SetCleanSession(!f.Keep).SetAutoReconnect(true).SetMaxReconnectInterval(lastRetry).SetOrderMatters(true)
	o.SetConnectionLostHandler(func(_ mqtt.Client, err error) { f.Said(err) })
	o.SetOnConnectHandler(func(client mqtt.Client) {
		token := client.Subscribe(f.Topic, 1, func(_ mqtt.Client, m mqtt.Message) { f.Message(m.Topic(), m.Payload(), m.Retained()) })
		go func() { // a handler must not wait
			select {
			case <-token.Done():
			case <-ctx.Done():
				return
			}
			err := token.Error()
			if s, ok := token.(*mqtt.SubscribeToken); ok && err == nil && s.Result()[f.Topic] == refusedSubscription {
				err = fmt.Errorf("the broker does not allow %s to read %s", f.ClientID, f.Topic)
			}
			f.Said(err)
			if err == nil {
				select {
				case ready <- struct{}{}:
				default:
				}
			}
		}()
	})
	client := mqtt.NewClient(o)
	var offering sync.WaitGroup
	if f.Offer != nil {
		offering.Go(func() { f.Offer.repeat(ctx, client, ready) })
	}
	for wait := firstRetry; ctx.Err() == nil; wait = min(2*wait, lastRetry) {
		token := client.Connect()
		again := make(<-chan time.Time) // never, once it is connected
		select {
		case <-token.Done():
			if err := token.Error(); err != nil {
				f.Said(fmt.Errorf("connect to %s: %w", f.Broker, err))
				again = time.After(wait)
			}
		case <-ctx.Done():
		}
		select {
		case <-again:
		case <-ctx.Done():
		}
	}
	client.Disconnect(farewellMS)
	offering.Wait()
	if f.Keep {
		f.forget()
	}
	return nil
}

// repeat publishes at each connection, and meanwhile, until ctx ends.
func (o *Offer) repeat(ctx context.Context, client mqtt.Client, ready <-chan struct{}) {
	every := time.NewTicker(o.Every)
	defer every.Stop()
	var again <-chan time.Time // not before the first connection
	for {
		select {
		case <-ready:
			again = every.C
		case <-again:
		case <-ctx.Done():
			return
		}
		if client.IsConnectionOpen() {
			client.Publish(o.Topic, 1, false, o.Payload)
		}
	}
}

// refusedSubscription is the return code of a SUBACK (MQTT 3.1.1, 3.9.3).
const refusedSubscription = 0x80

func (f Follower) options() (*mqtt.ClientOptions, error) {
	return f.Credentials.options(f.Broker, f.ClientID, new(Link), nil, nil)
}

// forget makes the broker drop what it kept: a clean session under the same name.
func (f Follower) forget() {
	o, err := f.options()
	if err != nil {
		return
	}
	client := mqtt.NewClient(o.SetCleanSession(true).SetAutoReconnect(false))
	if client.Connect().WaitTimeout(time.Second) {
		client.Disconnect(0)
	}
}
