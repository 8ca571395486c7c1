# corosync and pacemaker on one host, in a mount and host name namespace of their own: $1 is the host's number, $2 the
# pipe that hears when the resource starts, $3 a line of corosync's `totem` section.
set -e
mount --make-rprivate /
for folder in /run /var/lib/pacemaker /var/lib/corosync /etc/corosync /var/log /dev/shm /usr/lib/ocf/resource.d; do
    mkdir -p "$folder"
    mount -t tmpfs tmpfs "$folder"
done
hostname "n$1"
mkdir -p /run/crm /var/log/pacemaker /usr/lib/ocf/resource.d/bench
for folder in cib pengine cores blackbox; do mkdir -p "/var/lib/pacemaker/$folder"; done
chown -R hacluster:haclient /var/lib/pacemaker /run/crm /var/log/pacemaker

cat >/usr/lib/ocf/resource.d/bench/mark <<END
#!/bin/sh
case \$1 in
start) touch /run/mark; echo start >"$2"; exit 0 ;;
stop) rm -f /run/mark; exit 0 ;;
monitor) [ -e /run/mark ] || exit 7; exit 0 ;;
meta-data)
    echo '<?xml version="1.0"?><resource-agent name="mark" version="1.0"><version>1.0</version>'
    echo '<longdesc lang="en">mark</longdesc><shortdesc lang="en">mark</shortdesc><parameters/><actions>'
    for action in start stop monitor meta-data; do echo "<action name=\"\$action\" timeout=\"20s\"/>"; done
    echo '</actions></resource-agent>'
    exit 0 ;;
esac
exit 3
END
chmod +x /usr/lib/ocf/resource.d/bench/mark

cat >/etc/corosync/corosync.conf <<END
totem {
    version: 2
    cluster_name: bench
    transport: knet
    crypto_cipher: none
    crypto_hash: none
    $3
}
nodelist {
    node {
        name: n0
        nodeid: 1
        ring0_addr: 10.72.1.1
        ring1_addr: 10.72.2.1
    }
    node {
        name: n1
        nodeid: 2
        ring0_addr: 10.72.1.2
        ring1_addr: 10.72.2.2
    }
}
quorum {
    provider: corosync_votequorum
    two_node: 1
    wait_for_all: 0
}
logging {
    to_stderr: yes
    to_syslog: no
}
END
corosync -f &
sleep 1
PCMK_logfile=none pacemakerd -f &
if [ "$1" = 0 ]; then
    # Again and again until there is a controller that takes it; a second time it is there already.
    until crm_attribute -t crm_config -n stonith-enabled -v false &&
        crm_attribute -t crm_config -n dc-deadtime -v 5s; do sleep 1; done
    cibadmin -C -o resources -X '<primitive id="mark" class="ocf" provider="bench" type="mark"/>' || true
fi
wait
