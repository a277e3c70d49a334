package main

import (
	"fmt"

	"telemetryd/internal/publish"
)

// brokerFlags are the flags by which a command that runs anywhere reaches a vehicle's broker.
type brokerFlags struct {
	Broker       string   `default:"mqtt://127.0.0.1:1883" placeholder:"URL" help:"mqtt://, mqtts://, ws:// or wss://."`
	TopicPrefix  string   `default:"vehicles" placeholder:"PREFIX" help:"First segment of the topics."`
	Username     string   `placeholder:"NAME" help:"User at the broker."`
	PasswordFile string   `placeholder:"FILE" help:"File that holds the password at the broker."`
	CAFile       string   `name:"ca-file" placeholder:"FILE" help:"CA certificates that sign the broker's, PEM. Default: the system's."`
	CertFile     string   `placeholder:"FILE" help:"Our certificate for the broker, PEM."`
	KeyFile      string   `placeholder:"FILE" help:"Its key, PEM."`
	ServerName   string   `placeholder:"NAME" help:"Name that TLS asks for and verifies, where the broker's URL has another one."`
	ALPN         []string `name:"alpn" placeholder:"NAME,..." help:"Protocols that TLS offers."`
}

// judge checks them.
func (f *brokerFlags) judge() (publish.Broker, publish.Credentials, error) {
	broker, err := publish.ParseBroker(f.Broker)
	credentials := publish.Credentials{Username: f.Username, PasswordFile: f.PasswordFile, CAFile: f.CAFile, CertFile: f.CertFile, KeyFile: f.KeyFile, ServerName: f.ServerName, ALPN: f.ALPN}
	switch {
	case err != nil:
		err = fmt.Errorf("--broker: %w", err)
	case !prefixPattern.MatchString(f.TopicPrefix):
		err = fmt.Errorf("--topic-prefix: %q is not allowed; allowed: 1 to 128 characters without # and +", f.TopicPrefix)
	default:
		err = credentials.Check()
	}
	if err != nil {
		return publish.Broker{}, publish.Credentials{}, &usageError{err}
	}
	return broker, credentials, nil
}
