"""A real SLURM of one node, started for a test: munge, controller and node daemon in the foreground, no systemd."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel")
CONF = """\
ClusterName=steeldefect
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={lab}/munge.socket,cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
ReturnToService=2
StateSaveLocation={lab}/state
SlurmdSpoolDir={lab}/spool
SlurmctldPidFile={lab}/slurmctld.pid
SlurmdPidFile={lab}/slurmd.pid
SlurmctldPort={controller}
SlurmdPort={node}
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobRequeue=1
KillWait=5
MinJobAge=86400
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=60:00 State=UP
"""
# submitit asks sacct how its jobs stand; without an accounting daemon the controller knows as well
SACCT = """\
#!{python}
import subprocess, sys
print("JobID|State|NodeList")
for wanted in (v for k, v in zip(sys.argv, sys.argv[1:]) if k == "-j"):
    for job in wanted.split(","):
        shown = subprocess.run(["scontrol", "show", "job", "-o", job], capture_output=True, text=True).stdout
        for line in shown.splitlines():
            of = dict(pair.split("=", 1) for pair in line.split() if "=" in pair)
            if "JobId" in of:
                task = of.get("ArrayTaskId", "")
                name = f"{{of['ArrayJobId']}}_{{task}}" if task.isdigit() else of["JobId"]
                name = f"{{of['ArrayJobId']}}_[{{task}}]" if task and not task.isdigit() else name
                print(f"{{name}}|{{of['JobState']}}|{{of.get('NodeList', '')}}")
"""


def missing() -> str:
    """Why no SLURM can be started here; empty where one can."""
    if os.geteuid() != 0:
        return "a SLURM of one's own needs root"
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"not installed: {', '.join(lacking)} (apt-get install slurm-wlm munge)" if lacking else ""


class Slurm:
    def __init__(self, lab: Path) -> None:
        self.lab = lab
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.environment = os.environ | {
            "SLURM_CONF": str(lab / "slurm.conf"),
            "PATH": f"{lab / 'bin'}:{os.environ['PATH']}",
        }

    def start(self, seconds: float = 120) -> None:
        """Raises RuntimeError with what the daemons said where the node is not idle in time."""
        for name in ("state", "spool", "bin", "log"):
            (self.lab / name).mkdir(mode=0o755)
        key, conf, sacct = self.lab / "munge.key", self.lab / "slurm.conf", self.lab / "bin" / "sacct"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        ports = dict(zip(("controller", "node"), _free_ports(2), strict=True))
        conf.write_text(
            CONF.format(host=socket.gethostname().split(".")[0], lab=self.lab, cpus=os.cpu_count(), **ports)
        )
        sacct.write_text(SACCT.format(python=sys.executable))
        sacct.chmod(0o755)
        socket_option = f"--socket={self.lab}/munge.socket"
        files = [f"--{name}-file={self.lab}/munge.{name}" for name in ("pid", "log", "seed")]
        self._run("munged", "--foreground", "--force", f"--key-file={key}", socket_option, *files)
        self._run("slurmctld", "-D")
        self._run("slurmd", "-D")
        end = time.monotonic() + seconds
        while self.ask("sinfo", "-h", "-o", "%t") not in ("idle", "mix", "alloc"):
            if time.monotonic() > end:
                said = "\n".join(path.read_text()[-500:] for path in (self.lab / "log").iterdir())
                raise RuntimeError(f"SLURM did not come up in {seconds:.0f} s\n{said}")
            time.sleep(0.5)

    def _run(self, *command: str) -> None:
        with (self.lab / "log" / command[0]).open("wb") as log:
            self.daemons.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log))

    def ask(self, *command: str) -> str:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True).stdout.strip()

    def stop(self) -> None:
        jobs = self.ask("squeue", "-h", "-o", "%A").split()
        if jobs:
            self.ask("scancel", *sorted(set(jobs)))
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()


def _free_ports(count: int) -> list[int]:
    taken = [socket.socket() for _ in range(count)]
    for one in taken:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports
