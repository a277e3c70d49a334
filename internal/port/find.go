package port

import (
	"path/filepath"
	"regexp"
)

// byID holds links named after make, model and serial number of USB devices: the
// only names that survive unplugging and another order of plugging.
const byID = "/dev/serial/by-id"

var receiverName = regexp.MustCompile(`(?i)u-blox|gnss|gps`)

// FindReceivers lists the serial ports that by their names are GNSS receivers.
func FindReceivers() []Address { return find(byID, true) }

// FindAdapters lists the serial ports that may be an ELM327: USB ports that are
// not named as a receiver. Nothing is opened.
func FindAdapters() []Address { return find(byID, false) }

func find(dir string, receivers bool) []Address {
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return nil
	}
	var found []Address
	for _, name := range names {
		if receiverName.MatchString(filepath.Base(name)) == receivers {
			found = append(found, Address{Scheme: "serial", Path: name})
		}
	}
	return found
}
