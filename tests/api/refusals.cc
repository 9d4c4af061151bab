// clang-format off
// Each case is one line.
// Programs that must not compile, each with one readable line. Read by refusals.cmake: behind REFUSED stand the words
// that one line of error must have; there is one such line for each, and no other error.
#include <memory>
#include <string>
#include <vector>

#include "muster/muster.h"

struct Socket {
  explicit Socket(int number);
  int* descriptor;
};
struct Owner {
  int a = 0;
  std::unique_ptr<int> owned;
};
struct Base {
  int a = 0;
};
struct Derived : Base {
  int b = 0;
};

int TooFew(std::string text, int number);
int WrongType(std::string text, int number);
int WrongNull(std::string text);
int WrongRef(std::string text);
int SendSocket(int number, Socket socket);
int SendOwner(Owner owner);
int SendDerived(Derived derived);
Socket OpenSocket(int number);
muster::ObjectRef<int> GiveRef(int number);
int TakePointer(const char* text);
int TakeMutable(int number, std::vector<int>& out);
int SendInGroup(Socket socket);

void Cases() {
  muster::Task<TooFew>().Remote("a");                     // REFUSED TooFew NumberOfArguments 1 2
  muster::Task<WrongType>().Remote("a", "b");             // REFUSED WrongType 2 char [2] int
  muster::Task<WrongNull>().Remote(nullptr);              // REFUSED WrongNull 1 nullptr_t
  muster::Task<WrongRef>().Remote(muster::Put(3));        // REFUSED WrongRef 1 ObjectRef<int>
  muster::Task<SendSocket>().Remote(1, Socket(3));        // REFUSED SendSocket 2 Socket MUSTER_FIELDS
  muster::Task<SendOwner>().Remote(Owner());              // REFUSED SendOwner 1 Owner MUSTER_FIELDS
  muster::Task<SendDerived>().Remote(Derived());          // REFUSED SendDerived 1 Derived MUSTER_FIELDS
  muster::Task<OpenSocket>().Remote(1);                   // REFUSED OpenSocket Result Socket MUSTER_FIELDS
  muster::Task<GiveRef>().Remote(1);                      // REFUSED GiveRef Result ObjectRef<int>
  muster::Task<TakePointer>().Remote("x");                // REFUSED TakePointer 1 const char ConstReference
  muster::Task<TakeMutable>().Remote(1, std::vector<int>());  // REFUSED TakeMutable 2 vector<int ConstReference
  muster::Group<SendInGroup>({.ranks = 2}).Remote(Socket(3));  // REFUSED SendInGroup 1 Socket MUSTER_FIELDS
  muster::Task<[](auto x) { return x; }>().Remote(1);     // REFUSED CapturelessLambda_WithoutAuto
  muster::Put(Socket(3));                                 // REFUSED Value BeSent Socket MUSTER_FIELDS
  muster::ObjectRef<double> empty;                        // REFUSED ObjectRef<double>
}
