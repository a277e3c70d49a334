package publish

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"telemetryd/internal/telemetry"
)

// missing is a broker that is not reached, or does not let us in: why, in the words of who
// can mend it.
func missing(b Broker, c Config, err error) telemetry.Condition {
	m := telemetry.Condition{Code: "broker_missing", Severity: telemetry.Warning,
		Title:  fmt.Sprintf("The broker is not reached: %v", err),
		Remedy: fmt.Sprintf("is there a network, and is %s right? Data is kept and sent later", b)}
	say := func(code, title, remedy string) telemetry.Condition {
		m.Code, m.Title, m.Remedy = code, title, remedy+" Data is kept and sent later"
		return m
	}
	if silent(err) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, errUnheard) {
		return say("broker_missing", fmt.Sprintf("The connection to %s has gone silent", b), "the link is down, or too slow for what is sent; it is connected to again.")
	}
	if errors.Is(err, errNoPUBACK) {
		return say("broker_missing", fmt.Sprintf("%s answers, but has acknowledged nothing for a minute", b), "does it fail over, or is it overloaded? It is connected to again.")
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return say("broker_missing", fmt.Sprintf("The broker's name %s is not found", dns.Name), "is there a network, and is the name right?")
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return say("broker_missing", fmt.Sprintf("Nothing listens at %s", b), "does the broker run, is the port right, and does it listen on more than its own loopback?")
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return say("broker_untrusted", fmt.Sprintf("The certificate of %s is signed by nobody whom this machine trusts", b), untrustedRemedy(c))
	}
	if host, ok := errors.AsType[x509.HostnameError](err); ok {
		return say("broker_untrusted", fmt.Sprintf("The certificate of %s is not for %s", b, host.Host), "give --broker a name that the certificate has, or name it with --server-name, or give the broker a certificate with this name.")
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return say("broker_untrusted", outOfDate(b, c, invalid.Cert), "renew the broker's certificate, if the date here is right; without network time or a GPS fix it may not be.")
	}
	if isAlert(err) {
		title, remedy := alerted(b, c, err)
		return say("broker_refused", title, remedy)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return say("broker_missing", fmt.Sprintf("What answers at %s is not TLS", b), "without TLS it is mqtt:// or ws://; is the port right?")
	}
	switch {
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised):
		if c.Credentials.Username == "" {
			return say("broker_refused", fmt.Sprintf("%s does not let us in without a user", b), "give --username and --password-file; an account by certificate has to allow the client id "+c.ClientID+".")
		}
		return say("broker_refused", fmt.Sprintf("%s does not let the user %q in", b, c.Credentials.Username), "are --username and --password-file right, and may this user have the client id "+c.ClientID+"?")
	case errors.Is(err, packets.ErrorRefusedIDRejected):
		return say("broker_refused", fmt.Sprintf("%s does not take the client id %q", b, c.ClientID), "give one that it takes with --client-id.")
	case !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET):
	case errors.Is(err, packets.ErrorNetworkError): // while connecting
		return say("broker_refused", fmt.Sprintf("%s closes the connection before it lets us in", b), "is the port that of "+b.url.Scheme+"://? If it is, a rule there denies the certificate or the client id "+c.ClientID+" (AWS IoT: iot:Connect in the policy).")
	default:
		return say("broker_missing", fmt.Sprintf("%s has ended the connection: %v", b, err), "does its log tell why? It is connected to again.")
	}
	return m
}

func untrustedRemedy(c Config) string {
	if c.Credentials.CAFile != "" {
		return "the CA in --ca-file " + c.Credentials.CAFile + " is another one: name that of the broker's certificate."
	}
	return "name the certificate of the CA that signed it with --ca-file."
}

// Alerts of TLS (RFC 8446, 6.2). The type of those that a connection returns is not public;
// their texts are the same.
var (
	certificateExpired    = tls.AlertError(45).Error()
	unrecognizedName      = tls.AlertError(112).Error()
	certificateRequired   = tls.AlertError(116).Error()
	noApplicationProtocol = tls.AlertError(120).Error()
)

// isAlert tells an alert of the other side's: so crypto/tls calls it.
func isAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}

// alerted tells why a broker ends the TLS handshake.
func alerted(b Broker, c Config, err error) (title, remedy string) {
	op, _ := errors.AsType[*net.OpError](err)
	alert, ours := op.Err.Error(), c.Credentials.CertFile
	switch alert {
	case noApplicationProtocol:
		return fmt.Sprintf("%s takes none of the protocols %q of --alpn", b, c.Credentials.ALPN), "name the one that it asks for on this port with --alpn, or another port."
	case unrecognizedName:
		return fmt.Sprintf("%s is not known by the name that we ask for", b), "give --broker the name that it has, or name it with --server-name."
	}
	switch {
	case ours == "": // certificate_required, or handshake_failure before TLS 1.3
		return fmt.Sprintf("%s ends the TLS handshake, and may want a certificate: %s", b, alert), "give ours with --cert-file and --key-file."
	case alert == certificateRequired: // one that the broker's list of CAs does not allow is kept back
		return fmt.Sprintf("%s trusts none of the CAs that signed our certificate %s", b, ours), "get one from the CA that the broker trusts."
	case alert == certificateExpired:
		return fmt.Sprintf("%s finds our certificate %s expired", b, ours), "renew it; is the date right at the broker?"
	default:
		return fmt.Sprintf("%s does not accept our certificate %s: %s", b, ours, alert), "is it signed by a CA that the broker trusts, registered and active there, and not expired?"
	}
}

// outOfDate tells from when until when a certificate is valid, and what the date is here.
func outOfDate(b Broker, c Config, cert *x509.Certificate) string {
	now, quality := c.Clock.Now()
	what := fmt.Sprintf("has expired on %s", cert.NotAfter.Format(time.DateOnly))
	if now.Before(cert.NotBefore) {
		what = fmt.Sprintf("is valid only from %s", cert.NotBefore.Format(time.DateOnly))
	}
	here := fmt.Sprintf("it is %s here", now.Format(time.DateOnly))
	if quality == telemetry.Unsynced {
		here += ", by a clock that nobody has set yet"
	}
	return fmt.Sprintf("The certificate of %s %s; %s", b, what, here)
}
