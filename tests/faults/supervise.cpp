// Runs a program and lets one of its system calls fail, or something happen just before it.
//
//   supervise REPORT FOLDER CALLS NUMBER FAULT PROGRAM [ARGUMENT ...]
//
// Counts the calls of a kind on what lies in FOLDER. CALLS are `change` (whatever writes, makes or renames),
// or `read` (whatever opens, reads or maps). When the count comes to NUMBER, FAULT happens:
//
//   ENOSPC          this call fails, and every later one that needs room, as on a full disk
//   EIO, EACCES     this call fails
//   INT, TERM, KILL the program gets the signal
//   sh:COMMAND      the shell runs COMMAND; then the call goes on
//
// REPORT gets a line: how many calls were counted, and the call that met the fault. Ends as the program does,
// with 128 + the number of a signal.
//
// The system asks before every such call (seccomp's user notification, Linux 5.5), so calls that do not go
// through the C library are seen, too, and those of threads and child processes. No privilege is needed.
#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <string>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

// Where a call names its file.
enum Where { DESCRIPTOR, PATH, PATH_AT };

struct Call {
    int number;
    const char* name;
    Where where;
    int argument;
    bool change;
};

static const Call CALLS[] = {
    {SYS_write, "write", DESCRIPTOR, 0, true},
    {SYS_pwrite64, "pwrite", DESCRIPTOR, 0, true},
    {SYS_writev, "writev", DESCRIPTOR, 0, true},
    {SYS_ftruncate, "ftruncate", DESCRIPTOR, 0, true},
    {SYS_fsync, "fsync", DESCRIPTOR, 0, true},
    {SYS_fdatasync, "fdatasync", DESCRIPTOR, 0, true},
    {SYS_copy_file_range, "copy_file_range", DESCRIPTOR, 2, true},
    {SYS_sendfile, "sendfile", DESCRIPTOR, 0, true},
    {SYS_mkdirat, "mkdir", PATH_AT, 0, true},
    {SYS_renameat2, "rename", PATH_AT, 2, true},
    {SYS_linkat, "link", PATH_AT, 2, true},
    {SYS_openat, "open", PATH_AT, 0, false},
#ifdef SYS_open
    {SYS_open, "open", PATH, 0, false},
    {SYS_mkdir, "mkdir", PATH, 0, true},
    {SYS_rename, "rename", PATH, 1, true},
    {SYS_link, "link", PATH, 1, true},
#endif
#ifdef SYS_renameat
    {SYS_renameat, "rename", PATH_AT, 2, true},
#endif
    {SYS_read, "read", DESCRIPTOR, 0, false},
    {SYS_pread64, "pread", DESCRIPTOR, 0, false},
    {SYS_readv, "readv", DESCRIPTOR, 0, false},
    {SYS_mmap, "mmap", DESCRIPTOR, 4, false},
    {SYS_getdents64, "getdents", DESCRIPTOR, 0, false},
};

static void must(bool holds, const char* what) {
    if (holds) return;
    perror(what);
    exit(126);
}

// The program from here on asks whoever holds the descriptor that is returned.
static int listen_to_calls() {
    std::vector<sock_filter> filter;
    filter.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
    for (const Call& call : CALLS) {
        filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call.number, 0, 1));
        filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF));
    }
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    sock_fprog program = {(unsigned short)filter.size(), filter.data()};
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
    int listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    must(listener >= 0, "seccomp");
    return listener;
}

static void send_descriptor(int socket, int descriptor) {
    char byte = 0, control[CMSG_SPACE(sizeof(int))] = {};
    iovec data = {&byte, 1};
    msghdr message = {};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
    must(sendmsg(socket, &message, 0) == 1, "sendmsg");
}

static int receive_descriptor(int socket) {
    char byte, control[CMSG_SPACE(sizeof(int))] = {};
    iovec data = {&byte, 1};
    msghdr message = {};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    must(recvmsg(socket, &message, 0) == 1, "recvmsg");
    int descriptor;
    memcpy(&descriptor, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
    return descriptor;
}

static std::string link_of(const std::string& path) {
    char target[PATH_MAX];
    ssize_t length = readlink(path.c_str(), target, sizeof target);
    return length < 0 ? std::string() : std::string(target, length);
}

static std::string text_at(int process, unsigned long long address) {
    char text[PATH_MAX];
    // Up to the end of a page at a time: the next one may not be there.
    size_t length = 0;
    while (length < sizeof text) {
        size_t part = std::min(4096 - (size_t)((address + length) % 4096), sizeof text - length);
        iovec here = {text + length, part}, there = {(void*)(address + length), part};
        if (process_vm_readv(process, &here, 1, &there, 1, 0) != (ssize_t)part) break;
        if (void* end = memchr(text + length, 0, part)) return std::string(text, (char*)end);
        length += part;
    }
    return std::string();
}

static std::string file_of(const Call& call, const seccomp_notif& asked) {
    std::string process = "/proc/" + std::to_string(asked.pid);
    long long argument = (long long)asked.data.args[call.argument];
    if (call.where == DESCRIPTOR) {
        return link_of(process + "/fd/" + std::to_string((int)argument));
    }
    bool at = call.where == PATH_AT;
    std::string path = text_at((int)asked.pid, asked.data.args[call.argument + (at ? 1 : 0)]);
    if (!path.empty() && path[0] == '/') return path;
    bool here = !at || (int)argument == AT_FDCWD;
    return link_of(process + (here ? "/cwd" : "/fd/" + std::to_string((int)argument))) + "/" + path;
}

// Whether opening is making.
static bool changes(const Call& call, const seccomp_notif& asked) {
    if (strcmp(call.name, "open") != 0) return call.change;
    return (asked.data.args[call.argument + (call.where == PATH_AT ? 2 : 1)] & (O_CREAT | O_TRUNC)) != 0;
}

int main(int count, char** arguments) {
    if (count < 7) return 126;
    std::string report = arguments[1], folder = arguments[2], fault = arguments[5];
    bool change = strcmp(arguments[3], "change") == 0;
    long wanted = atol(arguments[4]);

    int sockets[2];
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0, "socketpair");
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        send_descriptor(sockets[1], listen_to_calls());
        close(sockets[0]);
        close(sockets[1]);
        execvp(arguments[6], arguments + 6);
        perror(arguments[6]);
        _exit(126);
    }
    close(sockets[1]);
    int listener = receive_descriptor(sockets[0]);

    long met = 0;
    std::string first;
    // A program that hangs is ended; whoever runs this one sees the signal.
    int patience = 120;
    for (;;) {
        pollfd waiting = {listener, POLLIN, 0};
        int ready = poll(&waiting, 1, 1000);
        if (ready == 0 && --patience == 0) kill(child, SIGKILL);
        if (ready > 0 && (waiting.revents & POLLIN) == 0) break;
        if (ready <= 0) continue;
        // Newer systems have larger ones than these headers.
        alignas(8) char room[1024] = {};
        seccomp_notif& asked = *(seccomp_notif*)room;
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked) != 0) continue;
        seccomp_notif_resp answer = {};
        answer.id = asked.id;
        answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        const Call* call = CALLS;
        while (call->number != asked.data.nr) call++;
        std::string file = file_of(*call, asked);
        bool inside = file == folder || file.compare(0, folder.size() + 1, folder + "/") == 0;
        if (inside && changes(*call, asked) == change) {
            met++;
            int fails = 0;
            if (met == wanted) {
                first = std::string(call->name) + " " + file;
                if (fault == "INT") kill(child, SIGINT);
                if (fault == "TERM") kill(child, SIGTERM);
                if (fault == "KILL") kill(child, SIGKILL);
                if (fault == "EIO") fails = EIO;
                if (fault == "EACCES") fails = EACCES;
                if (fault.compare(0, 3, "sh:") == 0) must(system(fault.c_str() + 3) == 0, "sh");
            }
            if (met >= wanted && fault == "ENOSPC") fails = ENOSPC;
            if (fails != 0) {
                answer.flags = 0;
                answer.error = -fails;
            }
        }
        // Whoever asked may have been killed.
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
    int status;
    must(waitpid(child, &status, 0) == child, "waitpid");
    FILE* told = fopen(report.c_str(), "w");
    must(told != nullptr, "report");
    fprintf(told, "%ld %s\n", met, first.c_str());
    fclose(told);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
