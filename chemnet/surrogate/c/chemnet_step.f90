! chemnet_step for Fortran: see chemnet_step.h for what the functions do.
module chemnet
  use, intrinsic :: iso_c_binding, only: c_associated, c_char, c_double, c_f_pointer, c_int, c_loc, c_null_char, &
                                         c_ptr, c_size_t
  implicit none
  private
  public :: chemnet_load, chemnet_free, chemnet_check, chemnet_step, chemnet_dt, chemnet_n_species
  public :: chemnet_mechanism, chemnet_species_name, chemnet_status_text

  integer(c_int), parameter, public :: chemnet_ok = 0, chemnet_failed = 2, chemnet_invalid = 3, chemnet_outside = 4, &
                                       chemnet_slow = 5
  integer, parameter :: message_size = 256

  interface
    function load_c(path, message, size) bind(C, name="chemnet_load") result(model)
      import :: c_char, c_ptr, c_size_t
      character(kind=c_char), intent(in) :: path(*)
      character(kind=c_char), intent(inout) :: message(*)
      integer(c_size_t), value :: size
      type(c_ptr) :: model
    end function load_c

    function check_c(model, dt, n_species, species, message, size) bind(C, name="chemnet_check") result(failed)
      import :: c_char, c_double, c_int, c_ptr, c_size_t
      type(c_ptr), value :: model
      real(c_double), value :: dt
      integer(c_size_t), value :: n_species, size
      type(c_ptr), intent(in) :: species(*)
      character(kind=c_char), intent(inout) :: message(*)
      integer(c_int) :: failed
    end function check_c

    ! Release a model; it may be c_null_ptr.
    subroutine chemnet_free(model) bind(C, name="chemnet_free")
      import :: c_ptr
      type(c_ptr), value :: model
    end subroutine chemnet_free

    ! Number of the n cells that are left to an integrator. T(n) [K] and Y(species, n) are changed in place where
    ! status(n) is chemnet_ok; p(n) [Pa].
    function chemnet_step(model, n, T, p, Y, status) bind(C, name="chemnet_step") result(left)
      import :: c_double, c_int, c_ptr, c_size_t
      type(c_ptr), value :: model
      integer(c_size_t), value :: n
      real(c_double), intent(inout) :: T(*), Y(*)
      real(c_double), intent(in) :: p(*)
      integer(c_int), intent(inout) :: status(*)
      integer(c_size_t) :: left
    end function chemnet_step

    ! Time step of a model [s].
    function chemnet_dt(model) bind(C, name="chemnet_dt") result(dt)
      import :: c_double, c_ptr
      type(c_ptr), value :: model
      real(c_double) :: dt
    end function chemnet_dt

    ! Number of species of a model.
    function chemnet_n_species(model) bind(C, name="chemnet_n_species") result(n)
      import :: c_ptr, c_size_t
      type(c_ptr), value :: model
      integer(c_size_t) :: n
    end function chemnet_n_species

    function mechanism_c(model) bind(C, name="chemnet_mechanism") result(text)
      import :: c_ptr
      type(c_ptr), value :: model
      type(c_ptr) :: text
    end function mechanism_c

    function species_name_c(model, k) bind(C, name="chemnet_species_name") result(text)
      import :: c_ptr, c_size_t
      type(c_ptr), value :: model
      integer(c_size_t), value :: k
      type(c_ptr) :: text
    end function species_name_c

    function status_text_c(status) bind(C, name="chemnet_status_text") result(text)
      import :: c_int, c_ptr
      integer(c_int), value :: status
      type(c_ptr) :: text
    end function status_text_c

    function strlen(text) bind(C, name="strlen") result(n)
      import :: c_ptr, c_size_t
      type(c_ptr), value :: text
      integer(c_size_t) :: n
    end function strlen
  end interface

contains

  ! The model of a file, or c_null_ptr and the reason in message.
  subroutine chemnet_load(path, model, message)
    character(*), intent(in) :: path
    type(c_ptr), intent(out) :: model
    character(:), allocatable, intent(out) :: message
    character(kind=c_char) :: buffer(message_size)
    buffer = c_null_char
    model = load_c(terminated(path), buffer, int(message_size, c_size_t))
    message = text_of_buffer(buffer)
  end subroutine chemnet_load

  ! True if a model advances by dt [s] and its species are these, in this order; else the reason is in message.
  function chemnet_check(model, dt, species, message) result(fits)
    type(c_ptr), intent(in) :: model
    real(c_double), intent(in) :: dt
    character(*), intent(in) :: species(:)
    character(:), allocatable, intent(out) :: message
    logical :: fits
    character(kind=c_char), target :: names(len(species) + 1, size(species))
    character(kind=c_char) :: buffer(message_size)
    type(c_ptr) :: pointers(size(species))
    integer :: i, k
    names = c_null_char
    buffer = c_null_char
    do k = 1, size(species)
      do i = 1, len_trim(species(k))
        names(i, k) = species(k)(i:i)
      end do
      pointers(k) = c_loc(names(1, k))
    end do
    fits = check_c(model, dt, int(size(species), c_size_t), pointers, buffer, int(message_size, c_size_t)) == 0
    message = text_of_buffer(buffer)
  end function chemnet_check

  ! Name or file of a model's mechanism.
  function chemnet_mechanism(model) result(text)
    type(c_ptr), intent(in) :: model
    character(:), allocatable :: text
    text = text_at(mechanism_c(model))
  end function chemnet_mechanism

  ! Name of species k, from 1.
  function chemnet_species_name(model, k) result(text)
    type(c_ptr), intent(in) :: model
    integer, intent(in) :: k
    character(:), allocatable :: text
    text = text_at(species_name_c(model, int(k - 1, c_size_t)))
  end function chemnet_species_name

  ! What a status means, in a sentence.
  function chemnet_status_text(status) result(text)
    integer(c_int), intent(in) :: status
    character(:), allocatable :: text
    text = text_at(status_text_c(status))
  end function chemnet_status_text

  function terminated(text) result(characters)
    character(*), intent(in) :: text
    character(kind=c_char) :: characters(len_trim(text) + 1)
    integer :: i
    do i = 1, len_trim(text)
      characters(i) = text(i:i)
    end do
    characters(len_trim(text) + 1) = c_null_char
  end function terminated

  function text_at(address) result(text)
    type(c_ptr), intent(in) :: address
    character(:), allocatable :: text
    character(kind=c_char), pointer :: characters(:)
    integer :: i
    text = ""
    if (.not. c_associated(address)) return
    call c_f_pointer(address, characters, [strlen(address)])
    do i = 1, size(characters)
      text = text // characters(i)
    end do
  end function text_at

  function text_of_buffer(buffer) result(text)
    character(kind=c_char), intent(in) :: buffer(:)
    character(:), allocatable :: text
    integer :: i
    text = ""
    do i = 1, size(buffer)
      if (buffer(i) == c_null_char) exit
      text = text // buffer(i)
    end do
  end function text_of_buffer

end module chemnet
