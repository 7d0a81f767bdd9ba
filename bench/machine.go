package bench

import (
	"bufio"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is where the generator ran.
type Machine struct {
	Cores    int    `json:"cores"`
	MaxProcs int    `json:"max_procs"` // threads that run Go at once
	CPU      string `json:"cpu,omitempty"`
	Memory   uint64 `json:"memory_bytes"`
	Kernel   string `json:"kernel"`
	Go       string `json:"go"`
	Arch     string `json:"arch"`
}

func thisMachine() Machine {
	m := Machine{
		Cores: runtime.NumCPU(), MaxProcs: runtime.GOMAXPROCS(0), CPU: cpuModel(),
		Go: runtime.Version(), Arch: runtime.GOOS + "/" + runtime.GOARCH,
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) == nil {
		m.Memory = uint64(si.Totalram) * uint64(si.Unit)
	}
	return m
}

// cpuModel is the name of the first core, empty where the kernel does not tell.
func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, ok := strings.CutPrefix(s.Text(), "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(name, "\t :"))
		}
	}
	return ""
}
